//! Writes a certificate for loopback addresses, trusted by itself, and its key: what a node can serve
//! TLS with in a test or a benchmark, and what its clients trust then.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory] = arguments.as_slice() else {
        let _ = writeln!(io::stderr(), "usage: certificate DIRECTORY");
        return ExitCode::from(2);
    };
    match write(Path::new(directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{directory}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `web.pem` and `web.key`.
fn write(directory: &Path) -> io::Result<()> {
    let names = ["127.0.0.1", "::1", "localhost"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
    std::fs::write(directory.join("web.pem"), made.cert.pem())?;
    std::fs::write(directory.join("web.key"), made.signing_key.serialize_pem())
}
