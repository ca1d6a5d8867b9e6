"""Videos with questions and answers whose annotation is to be proposed."""
