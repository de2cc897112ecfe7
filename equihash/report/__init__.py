"""What is made of results: tables, pictures, and the page with all of them."""
