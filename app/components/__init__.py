"""Parts of pages that several pages share. Functions of values to component trees."""
