//! As much HTTP as asking a node for something takes.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Failure;

/// A node that does not answer within this time does not answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The status and the body of an answer.
pub async fn get(addr: SocketAddr, path: &str) -> Result<(u16, Vec<u8>), Failure> {
    let exchange = async {
        let mut stream = TcpStream::connect(addr).await?;
        // HTTP/1.0: the answer ends with the connection and is never in chunks.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {addr}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(TIMEOUT, exchange).await??;
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or("not HTTP")?;
    let head = std::str::from_utf8(&answer[..end])?;
    let status = head.split(' ').nth(1).ok_or("no status")?.parse()?;
    Ok((status, answer[end + 4..].to_vec()))
}

/// The JSON value at `path`; any status but 200 is an error.
pub async fn get_json(addr: SocketAddr, path: &str) -> Result<Value, Failure> {
    match get(addr, path).await? {
        (200, body) => Ok(serde_json::from_slice(&body)?),
        (status, _) => Err(format!("{path} answered {status}").into()),
    }
}
