//! The bodies of the fuzz targets; the program's own tests run the same ones over the seeds.
#![forbid(unsafe_code)]

pub mod bodies;
