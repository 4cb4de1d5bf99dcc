//! The least that a server of the tutorial's room can do: one thread, one poller, and per tick one
//! write to each connection with everything its room said, at once if nothing was said for a tick.
//! What it costs is what the machine charges; `scripts/bench` measures others against it. It keeps no
//! promises: no limits, no pings, no mesh.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const LISTENER: Token = Token(usize::MAX);
/// Who reads so slowly misses what comes next.
const UNSENT_MAX: usize = 1024 * 1024;
const TEXT: u8 = 0x81;

struct Client {
    stream: TcpStream,
    /// Its room, once it has been upgraded.
    room: Option<usize>,
    stamp: Vec<u8>,
    partial: Vec<u8>,
    unsent: Vec<u8>,
}

#[derive(Default)]
struct Room {
    members: Vec<usize>,
    said: Vec<u8>,
}

#[derive(Default)]
struct Floor {
    clients: Vec<Option<Client>>,
    names: HashMap<Vec<u8>, usize>,
    rooms: Vec<Room>,
    spoken: Vec<usize>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let parsed = match arguments.as_slice() {
        [addr, tick] => addr.parse().ok().zip(tick.parse().ok()),
        _ => None,
    };
    let Some((addr, tick_ms)) = parsed else {
        let _ = writeln!(io::stderr(), "usage: floor ADDRESS:PORT TICK_MS");
        return ExitCode::from(2);
    };
    match serve(addr, Duration::from_millis(tick_ms)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(addr: SocketAddr, tick: Duration) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(addr)?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(4096);
    let mut buffer = vec![0; 64 * 1024];
    let mut floor = Floor::default();
    let mut due: Option<Instant> = None;
    // A flush takes its time, and a poller wakes a little late; neither is added to the tick.
    let began = Instant::now();
    let mut next_flush = began;
    loop {
        let wait = due.map(|due| due.saturating_duration_since(Instant::now()));
        match poll.poll(&mut events, wait) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    floor.enter(stream, poll.registry())?;
                }
            } else if floor.serve(event.token().0, &mut buffer).is_err() {
                floor.drop_client(event.token().0);
            }
        }
        let now = Instant::now();
        if !floor.spoken.is_empty() && due.is_none() {
            due = Some(next_flush);
        }
        if due.is_some_and(|due| now >= due) {
            floor.flush();
            let ticks = (now - began + tick / 2).as_nanos() / tick.as_nanos().max(1);
            next_flush = began + tick * (ticks as u32 + 1);
            due = None;
        }
    }
}

impl Floor {
    fn enter(&mut self, mut stream: TcpStream, registry: &mio::Registry) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let token = Token(self.clients.len());
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let stamp = format!(
            ",\"sender\":\"00000000-0000-4000-8000-{:012x}\",\"color\":{}}}",
            token.0,
            token.0 % 360
        );
        self.clients.push(Some(Client {
            stream,
            room: None,
            stamp: stamp.into_bytes(),
            partial: Vec::new(),
            unsent: Vec::new(),
        }));
        Ok(())
    }

    fn serve(&mut self, index: usize, buffer: &mut [u8]) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(index).and_then(Option::as_mut) else {
            return Ok(());
        };
        client.push(&[])?;
        loop {
            let n = match client.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            client.partial.extend_from_slice(&buffer[..n]);
            if client.room.is_none() && !client.upgrade(&mut self.names)? {
                continue;
            }
            let Some(room) = client.room else {
                continue;
            };
            if room == self.rooms.len() {
                self.rooms.push(Room::default());
            }
            let room_state = &mut self.rooms[room];
            if !room_state.members.contains(&index) {
                room_state.members.push(index);
            }
            let silent = room_state.said.is_empty();
            client.take_frames(&mut room_state.said);
            if silent && !room_state.said.is_empty() {
                self.spoken.push(room);
            }
            if n < buffer.len() {
                return Ok(());
            }
        }
    }

    fn flush(&mut self) {
        for room in self.spoken.drain(..) {
            let Room { members, said } = &mut self.rooms[room];
            members.retain(|index| {
                let client = self.clients[*index].as_mut();
                client.is_some_and(|client| client.push(said).is_ok())
            });
            said.clear();
        }
    }

    fn drop_client(&mut self, index: usize) {
        self.clients[index] = None;
    }
}

impl Client {
    /// Answers the request once it is there; false if it is not yet.
    fn upgrade(&mut self, names: &mut HashMap<Vec<u8>, usize>) -> io::Result<bool> {
        let Some(end) = self.partial.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(false);
        };
        let head: Vec<u8> = self.partial.drain(..end + 4).collect();
        let text = String::from_utf8_lossy(&head);
        let key = text
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
            .ok_or(io::ErrorKind::InvalidData)?;
        let target = text.split(' ').nth(1).unwrap_or_default().as_bytes();
        let fresh = names.len();
        self.room = Some(*names.entry(target.to_vec()).or_insert(fresh));
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            derive_accept_key(key.trim().as_bytes())
        );
        self.push(answer.as_bytes())?;
        Ok(true)
    }

    /// Takes whole frames off what was read and puts them, stamped, as a server's frames into `said`.
    fn take_frames(&mut self, said: &mut Vec<u8>) {
        let mut at = 0;
        loop {
            let rest = &self.partial[at..];
            let Some(head) = rest.get(..2) else { break };
            let (length, from) = match head[1] & 0x7f {
                126 => match rest.get(2..4) {
                    Some(long) => (usize::from(u16::from_be_bytes([long[0], long[1]])), 4),
                    None => break,
                },
                short => (usize::from(short), 2),
            };
            let Some(payload) = rest.get(from + 4..from + 4 + length) else {
                break;
            };
            if head[0] == TEXT && length > 0 {
                let mask = &rest[from..from + 4];
                let whole = length - 1 + self.stamp.len();
                said.push(TEXT);
                match u8::try_from(whole) {
                    Ok(short) if short < 126 => said.push(short),
                    _ => {
                        said.push(126);
                        said.extend_from_slice(&(whole as u16).to_be_bytes());
                    }
                }
                let plain = payload.iter().zip(mask.iter().cycle());
                said.extend(plain.take(length - 1).map(|(byte, mask)| byte ^ mask));
                said.extend_from_slice(&self.stamp);
            }
            at += from + 4 + length;
        }
        self.partial.drain(..at);
    }

    /// Writes what waits and then `bytes`; what the socket does not take waits.
    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut bytes = bytes;
        while !self.unsent.is_empty() || !bytes.is_empty() {
            let waits = !self.unsent.is_empty();
            let chunk = if waits { &self.unsent[..] } else { bytes };
            match self.stream.write(chunk) {
                Ok(n) if waits => drop(self.unsent.drain(..n)),
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.unsent.len() < UNSENT_MAX {
                        self.unsent.extend_from_slice(bytes);
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
