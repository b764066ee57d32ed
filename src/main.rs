//! The one binary: see the library.
fn main() -> std::process::ExitCode {
    opensesame_spa::cli::main()
}
