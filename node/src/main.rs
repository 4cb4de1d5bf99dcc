//! The `cursormesh` program; everything is in the library.

fn main() -> std::process::ExitCode {
    cursormesh::cli::main()
}
