"""The slider t of a linear map."""
