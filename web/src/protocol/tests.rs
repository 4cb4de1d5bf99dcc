#![allow(clippy::unwrap_used)]

mod previous;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::cluster::Member;

/// The files that both implementations are tested on, by name.
fn fixtures() -> Vec<(String, Value)> {
    fixtures_in("protocol")
}

fn fixtures_in(folder: &str) -> Vec<(String, Value)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "json"))
        .map(|path| {
            let value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            (
                path.file_stem().unwrap().to_str().unwrap().to_owned(),
                value,
            )
        })
        .collect();
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    files
}

fn fixture(name: &str) -> Value {
    let (_, value) = fixtures()
        .into_iter()
        .find(|(known, _)| known == name)
        .unwrap_or_else(|| panic!("there is no web/protocol/{name}.json"));
    value
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap().as_bytes();
    hex.chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// A message of a client, from the file of that name.
fn said(name: &str) -> String {
    let fixture = fixture(name);
    assert_eq!(fixture["from"], "client", "{name}");
    fixture["message"].to_string()
}

/// The files that a node's own words were compared with.
#[derive(Default)]
struct Told(BTreeSet<String>);

impl Told {
    /// Whether `text` is the server's message in the file of that name.
    fn is(&mut self, name: &str, text: &str) {
        let fixture = fixture(name);
        assert_eq!(fixture["from"], "server", "{name}");
        let told: Value = serde_json::from_str(text).unwrap();
        assert_eq!(told, fixture["message"], "{name}");
        self.0.insert(name.to_owned());
    }
}

/// The names of files with messages in JSON.
fn messages_of(from: &str) -> BTreeSet<String> {
    let texts = fixtures().into_iter();
    let texts = texts.filter(|(_, file)| file["from"] == from && file.get("message").is_some());
    texts.map(|(name, _)| name).collect()
}

#[test]
fn every_file_is_a_message_of_the_client_or_of_the_server() {
    for (name, file) in fixtures() {
        let from = file["from"].as_str().unwrap();
        assert!(["client", "server"].contains(&from), "{name}");
        let forms = ["message", "hex"].map(|form| file.get(form).is_some());
        assert_ne!(forms[0], forms[1], "{name} is in JSON, or in bytes");
    }
}

#[test]
fn every_type_in_the_document_has_a_file_and_no_other() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/browser-protocol.md");
    let page = fs::read_to_string(page).unwrap();
    let (v1, _) = page.split_once("# Part 2").unwrap();
    let written: BTreeSet<&str> = v1
        .split("\"type\":\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    let files = fixtures();
    let known: BTreeSet<&str> = files
        .iter()
        .filter_map(|(_, file)| file["message"]["type"].as_str())
        .collect();
    assert_eq!(known, written);
}

/// What stands in the first column of the table that follows `heading` in the document, split at
/// commas; with the rest of its row.
fn table(heading: &str) -> Vec<(String, String)> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/browser-protocol.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, section) = page.split_once(heading).unwrap();
    let rows = section.lines().skip_while(|line| !line.starts_with("|--"));
    let rows = rows.skip(1).take_while(|line| line.starts_with('|'));
    rows.flat_map(|row| {
        let (first, rest) = row[1..].split_once('|').unwrap();
        let names = first.split(',').map(|name| name.trim().trim_matches('`'));
        names.map(|name| (name.to_owned(), rest.to_owned()))
    })
    .collect()
}

/// The names in a table, without those that no node says yet.
fn listed(heading: &str) -> BTreeSet<String> {
    let rows = table(heading).into_iter();
    let rows = rows.filter(|(_, rest)| !rest.trim_start().starts_with("reserved"));
    rows.map(|(name, _)| name).collect()
}

/// The names of values as messages have them.
fn named<T: Serialize>(values: &[T]) -> BTreeSet<String> {
    values
        .iter()
        .map(|value| json(value).trim_matches('"').to_owned())
        .collect()
}

#[test]
fn errors_and_reasons_are_those_in_the_document() {
    use ErrorCode::{AlreadyJoined, BadRoom, BadState, NotJoined, TooManyRooms};
    let errors = [BadRoom, TooManyRooms, BadState, AlreadyJoined, NotJoined];
    assert_eq!(named(&errors), listed("### Errors of one room"));

    let refusals = [Refused::TooBig, Refused::NotJoined, Refused::SlowLink];
    assert_eq!(named(&refusals), listed("An event that cannot be taken"));

    use LeaveReason::{Closed, Kicked, NodeLost, Superseded, TimedOut};
    let leaves = [Closed, TimedOut, NodeLost, Kicked, Superseded];
    assert_eq!(named(&leaves), listed("### Changes"));

    let outcomes = [Outcome::New, Outcome::Recovered, Outcome::Rebuilt];
    assert_eq!(named(&outcomes), listed("{\"type\":\"token\""));
    use Rebuilt::{EventsLost, TokenExpired, TokenInvalid, TokenWrongSubject, TooLate};
    let rebuilt = [
        EventsLost,
        TooLate,
        TokenExpired,
        TokenInvalid,
        TokenWrongSubject,
    ];
    let reasons = table("{\"type\":\"token\"").into_iter();
    let reasons = reasons.filter_map(|(_, rest)| Some(rest.split('`').nth(1)?.to_owned()));
    assert_eq!(named(&rebuilt), reasons.collect());
}

#[test]
fn close_codes_are_those_in_the_document() {
    let closes = [
        Close::DEAD,
        Close::UNFINISHED,
        Close::TOO_BIG,
        Close::SHUTDOWN,
        Close::OVERLOADED,
        Close::UNANSWERED,
        Close::NO_HELLO,
        Close::SUPERSEDED,
    ];
    let rows = table("## Closing\n");
    for close in closes {
        let (_, rest) = rows
            .iter()
            .find(|(code, _)| *code == close.code.to_string())
            .unwrap_or_else(|| panic!("{close:?} is not in the document"));
        assert!(rest.contains(&format!("`{}`", close.reason)), "{close:?}");
    }
    let codes: BTreeSet<_> = rows.iter().map(|(code, _)| code.as_str()).collect();
    for code in [
        Close::protocol("").code,
        Close::NOT_UTF8.code,
        Close::bad_message("").code,
    ] {
        assert!(codes.contains(code.to_string().as_str()), "{code}");
    }
    let reasons = rows.iter().flat_map(|(_, rest)| {
        let (reasons, _) = rest.split_once('|').unwrap();
        reasons.split('`').skip(1).step_by(2)
    });
    for reason in reasons.filter(|reason| *reason != "/ws") {
        assert!(
            closes.iter().any(|close| close.reason == reason),
            "{reason}"
        );
    }
}

#[test]
fn every_message_of_a_client_is_understood() {
    for name in messages_of("client") {
        let text = said(&name);
        let message = parse(text.as_bytes()).unwrap_or_else(|close| panic!("{name}: {close:?}"));
        let raw = |value: Option<&RawValue>| value.map(|value| value.get().to_owned());
        match (name.as_str(), message) {
            ("hello", ClientMessage::Hello(version)) => assert_eq!(version, VERSION),
            ("ping", ClientMessage::Ping(t)) => assert_eq!(t, 123.into()),
            ("join", ClientMessage::Join(join)) => {
                let user = join.user.unwrap();
                assert_eq!(join.room, "lobby");
                assert_eq!((user.id.as_deref(), user.color), (Some("u-ada"), Some(217)));
                assert_eq!(raw(join.state).as_deref(), Some(r#"{"tool":"pen"}"#));
                assert!(join.resume.is_none());
            }
            ("join_resume", ClientMessage::Join(join)) => assert!(join.resume.is_some()),
            ("update", ClientMessage::Update(update)) => {
                let user = update.user.unwrap();
                assert_eq!(update.room, "lobby");
                assert_eq!(user.name.as_deref(), Some("Ada L."));
                assert_eq!(raw(update.state).as_deref(), Some(r#"{"tool":"eraser"}"#));
            }
            ("leave", ClientMessage::Leave(leave)) => assert_eq!(leave.room, "lobby"),
            ("event_send", ClientMessage::Event(event)) => {
                assert_eq!(
                    (event.room.as_ref(), event.name.as_ref()),
                    ("lobby", "reaction")
                );
                assert_eq!(raw(event.data).as_deref(), Some(r#"{"emoji":"👍"}"#));
                assert_eq!(event.reference, Some(5.into()));
            }
            ("cursor", ClientMessage::Cursor(cursor)) => {
                assert_eq!(cursor.sample(), Sample::new(65_535, 1.5, -2.0));
            }
            (name, message) => panic!("nothing is known of {name}: {message:?}"),
        }
    }
}

#[test]
fn a_join_says_who_comes_and_what_it_saw() {
    let text = said("join_resume");
    let ClientMessage::Join(join) = parse(text.as_bytes()).unwrap() else {
        panic!("not a join");
    };
    assert_eq!(join.room, "lobby");
    let user = join.user.unwrap();
    assert_eq!((user.id.as_deref(), user.color), (Some("u-ada"), None));
    assert_eq!(join.state.unwrap().get(), r#"{"tool":"pen"}"#);
    let resume = join.resume.unwrap();
    assert_eq!((resume.token.as_ref(), resume.away_ms), ("AbCd-_09", 1234));
    assert_eq!(
        resume.seen(),
        [
            ("n1.1764000000000".to_owned(), 41),
            ("n2.1764000000500".to_owned(), u64::MAX)
        ]
    );
}

#[test]
fn null_is_a_state_and_nothing_is_none() {
    let state = |text: &'static str| match parse(text.as_bytes()).unwrap() {
        ClientMessage::Update(update) => update.state.map(|state| state.get().to_owned()),
        other => panic!("{other:?}"),
    };
    assert_eq!(state(r#"{"type":"update","room":"a"}"#), None);
    let null = r#"{"type":"update","room":"a","state":null}"#;
    assert_eq!(state(null).as_deref(), Some("null"));
}

#[test]
fn an_event_keeps_its_data_as_it_was_written() {
    let text =
        r#"{"type":"event","room":"a","name":"\u0062","data":{"n":1e400, "s":"\ud800"},"ref":5}"#;
    let ClientMessage::Event(event) = parse(text.as_bytes()).unwrap() else {
        panic!("not an event");
    };
    assert_eq!(
        event.payload(3),
        r#"{"epoch":3,"name":"b","data":{"n":1e400, "s":"\ud800"}}"#
    );
}

#[test]
fn what_is_no_message_closes_the_connection() {
    let deep = format!(
        "{{\"type\":\"x\",\"a\":{}1{}}}",
        "[".repeat(200),
        "]".repeat(200)
    );
    for text in [
        "",
        "null",
        "[]",
        "{}",
        "{\"type\":1}",
        "{\"type\":\"dance\"}",
        "{\"type\":\"join\"}",
        "{\"type\":\"join\",\"room\":5}",
        "{\"type\":\"cursor\",\"room\":\"a\",\"x\":1}",
        "{\"type\":\"cursor\",\"room\":\"a\",\"x\":1e999,\"y\":0}",
        "{\"type\":\"join\",\"room\":\"a\",\"user\":{\"color\":-1}}",
        "{\"type\":\"ping\",\"t\":\"x\"}",
        "{\"type\":\"leave\",\"room\":\"a\"} {}",
        deep.as_str(),
    ] {
        assert_eq!(parse(text.as_bytes()).unwrap_err().code, 4400, "{text}");
    }
}

#[test]
fn unknown_fields_are_ignored() {
    assert!(parse(br#"{"type":"leave","later":[1],"room":"a"}"#).is_ok());
}

fn member(fixture: &Value) -> Member {
    Member {
        id: fixture["id"].as_str().unwrap().parse().unwrap(),
        room: "lobby".into(),
        user: crate::cluster::User {
            id: fixture["user"]["id"].as_str().unwrap().into(),
            name: fixture["user"]["name"].as_str().unwrap().into(),
            color: fixture["user"]["color"].as_u64().unwrap() as u16,
        },
        state: fixture["state"].to_string().into(),
        node: fixture["node"].as_str().unwrap().into(),
        joined_at: fixture["joined_at"].as_u64().unwrap(),
        away: fixture["away"].as_bool().unwrap(),
        epoch: 1,
        resumable: true,
    }
}

/// A member's JSON, as the roster makes it.
fn told(fixture: &Value) -> String {
    let mut told = serde_json::to_value(member(fixture)).unwrap();
    told["alias"] = fixture["alias"].clone();
    told.to_string()
}

#[test]
fn the_server_says_what_is_written_down() {
    let message = |name: &str| fixture(name)["message"].clone();
    let mut told_so_far = Told::default();
    let mut is_told = |name: &str, text: &str| told_so_far.is(name, text);
    let welcomed = message("welcome");
    is_told(
        "welcome",
        &welcome(&Welcome {
            connection: welcomed["connection"].as_str().unwrap().parse().unwrap(),
            protocol: VERSION,
            node: "n1".into(),
            region: "eu".into(),
            ping_ms: 20_000,
            dead_ms: 30_000,
            nodes: vec![
                NodeSummary {
                    node: "n1".into(),
                    region: "eu".into(),
                    url: Some("ws://127.0.0.1:7071/v1".into()),
                },
                NodeSummary {
                    node: "n2".into(),
                    region: "eu".into(),
                    url: None,
                },
            ],
            limits: Limits {
                rooms: ROOMS_MAX,
                state_bytes: STATE_BYTES_MAX,
                event_bytes: EVENT_BYTES_MAX,
                message_bytes: 65_536,
            },
        }),
    );
    is_told("pong", &pong(&123.into(), 1_764_000_000_123));
    for (name, outcome, reason) in [
        ("joined", Outcome::New, None),
        ("joined_recovered", Outcome::Recovered, None),
        ("joined_rebuilt", Outcome::Rebuilt, Some(Rebuilt::TooLate)),
    ] {
        let fixture = message(name);
        let me = told(&fixture["self"]);
        let positions = fixture["positions"].as_object().unwrap();
        is_told(
            name,
            &joined(&Joined {
                room: "lobby",
                number: 7,
                me: serde_json::from_str(&me).unwrap(),
                token: fixture["token"].as_str().unwrap().into(),
                token_ms: crate::token::TOKEN_VALID.as_millis(),
                outcome,
                reason,
                positions: positions
                    .iter()
                    .map(|(origin, number)| (origin.as_str(), number.as_str().unwrap().into()))
                    .collect(),
            }),
        );
    }
    is_told("left", &left("lobby", LeaveReason::Closed));
    is_told("left_kicked", &left("lobby", LeaveReason::Kicked));
    is_told("token", &token("lobby", "AbCd-_12"));
    is_told("pressure", &pressure("lobby", 33));
    is_told(
        "positions",
        &positions("lobby", "n2.1764000000500", 18446744073709551615),
    );
    is_told(
        "error",
        &error(
            "lobby",
            ErrorCode::BadState,
            message("error")["message"].as_str().unwrap(),
            false,
        ),
    );
    let sent = message("event");
    let (name, data) = (&sent["name"], &sent["data"]);
    let payload = format!("{{\"epoch\":3,\"name\":{name},\"data\":{data}}}");
    assert_eq!(epoch_of(payload.as_bytes()), 3);
    let from = sent["from"].as_str().unwrap().parse().unwrap();
    is_told(
        "event",
        &event("lobby", from, payload.as_bytes(), "n1.1764000000000", 42).unwrap(),
    );
    let listed = message("snapshot");
    let mut members = String::new();
    for member in listed["members"].as_array().unwrap() {
        Changes::add(&mut members, &told(member));
    }
    is_told("snapshot", &snapshot("lobby", 17, &members, false, 0));
    for (name, version) in [("presence", 18), ("presence_left", 19)] {
        let diff = message(name);
        let mut changes = Changes::default();
        for (list, key) in [
            (&mut changes.joined, "joined"),
            (&mut changes.updated, "updated"),
        ] {
            for member in diff[key].as_array().into_iter().flatten() {
                Changes::add(list, &told(member));
            }
        }
        for gone in diff["left"].as_array().unwrap() {
            let reason = match gone["reason"].as_str().unwrap() {
                "node_lost" => LeaveReason::NodeLost,
                _ => LeaveReason::TimedOut,
            };
            changes.add_left(gone["id"].as_str().unwrap().parse().unwrap(), reason);
        }
        is_told(name, &changes.presence("lobby", version, None));
    }
    is_told(
        "snapshot_unlisted",
        &snapshot("lobby", 17, "", false, 4_500),
    );
    is_told(
        "presence_unlisted",
        &Changes::default().presence("lobby", 20, Some(4_501)),
    );
    let sample = |time_ms, x, y| Sample::new(time_ms, x, y).unwrap();
    let placed = [
        (1, sample(65_535, 1.5, -2.0)),
        (2, sample(40, 0.25, 1_000_000.0)),
    ];
    is_told("cursors", &cursors("lobby", &placed));
    is_told(
        "refused",
        &refused("lobby", Some(&5.into()), Refused::TooBig),
    );
    assert_eq!(told_so_far.0, messages_of("server"), "no file is left out");
}

#[test]
fn a_refusal_says_which_event_if_it_is_known() {
    let with = refused("lobby", Some(&5.into()), Refused::TooBig);
    assert_eq!(
        with,
        r#"{"type":"refused","room":"lobby","ref":5,"reason":"too_big"}"#
    );
    let without = refused("lobby", None, Refused::SlowLink);
    assert_eq!(
        without,
        r#"{"type":"refused","room":"lobby","reason":"slow_link"}"#
    );
}

#[test]
fn binary_frames_are_what_is_written_down() {
    let mut count = 0;
    for (name, fixture) in fixtures() {
        let Some(hex) = fixture.get("hex") else {
            continue;
        };
        count += 1;
        let frame = bytes(hex);
        let meaning = &fixture["meaning"];
        let number = meaning["number"].as_u64().unwrap() as u32;
        let records = meaning["records"].as_array().unwrap();
        let sample = |record: &Value| {
            Sample::new(
                record["time_ms"].as_u64().unwrap() as u16,
                record["x"].as_f64().unwrap() as f32,
                record["y"].as_f64().unwrap() as f32,
            )
            .unwrap()
        };
        if fixture["from"] == "client" {
            let newest = records.last().map(sample);
            assert_eq!(decode_samples(&frame), Ok((number, newest)), "{name}");
        } else {
            let records: Vec<Placed> = records
                .iter()
                .map(|record| (record["alias"].as_u64().unwrap() as u16, sample(record)))
                .collect();
            let full = meaning["full"].as_bool().unwrap();
            assert_eq!(encode_cursors(number, full, &records), frame, "{name}");
        }
    }
    assert!(count >= 4);
}

#[test]
fn a_frame_that_does_not_fit_is_not_taken() {
    let good = bytes(&fixture("cursor_binary")["hex"]);
    assert_eq!(
        decode_samples(&good[..good.len() - 1]),
        Err(FrameError::Length)
    );
    assert_eq!(decode_samples(&[]), Err(FrameError::Length));
    assert_eq!(decode_samples(&[1]), Err(FrameError::Length));
    assert_eq!(decode_samples(&[2, 0]), Err(FrameError::Kind));
    let mut infinite = good.clone();
    infinite[10..14].copy_from_slice(&f32::INFINITY.to_le_bytes());
    assert_eq!(decode_samples(&infinite), Ok((7, None)));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in any::<Vec<u8>>()) {
        let _ = parse(&text);
    }

    #[test]
    fn no_frame_makes_the_decoder_panic(mut frame in any::<Vec<u8>>()) {
        let _ = decode_samples(&frame);
        frame.insert(0, 1);
        if let Ok((_, Some(sample))) = decode_samples(&frame) {
            prop_assert!(sample.x.is_finite() && sample.y.is_finite());
        }
    }
}
