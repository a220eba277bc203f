"""The science: frames and arrays in, frames and arrays out. No IO, no clock."""
