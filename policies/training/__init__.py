"""What training is made of, one concept a file; policies.train puts it together."""
