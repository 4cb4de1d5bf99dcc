//! The version before the newest, by its frozen files in `web/protocol/v1`: what its clients say is
//! understood, and what they are told is what they know.

use super::*;

fn frozen() -> Vec<(String, Value)> {
    fixtures_in("protocol/v1")
}

/// What of `was` is not in `is`, in the same place and of the same kind; more may be there.
fn missing(was: &Value, is: &Value) -> Option<String> {
    match (was, is) {
        (Value::Object(was), Value::Object(is)) => was.iter().find_map(|(name, was)| {
            let Some(is) = is.get(name) else {
                return Some(name.clone());
            };
            missing(was, is).map(|path| format!("{name}.{path}"))
        }),
        (Value::Array(was), Value::Array(is)) => {
            if was.len() > is.len() {
                return Some("fewer items".to_owned());
            }
            let mut pairs = was.iter().zip(is);
            pairs.find_map(|(was, is)| missing(was, is))
        }
        _ => {
            let same = std::mem::discriminant(was) == std::mem::discriminant(is);
            (!same).then(|| format!("of another kind: {is}"))
        }
    }
}

#[test]
fn what_is_missing_is_noticed() {
    let was = serde_json::json!({"type": "x", "list": [{"a": 1}]});
    let more = serde_json::json!({"type": "x", "list": [{"a": 2, "b": 3}, {}], "c": null});
    assert_eq!(missing(&was, &more), None);
    for less in [
        serde_json::json!({"type": "x"}),
        serde_json::json!({"type": "x", "list": [{}]}),
        serde_json::json!({"type": "x", "list": [{"a": "1"}]}),
        serde_json::json!({"type": "x", "list": []}),
        serde_json::json!([]),
    ] {
        assert!(missing(&was, &less).is_some(), "{less}");
    }
}

#[test]
fn every_message_of_an_older_client_is_understood() {
    let mut understood = 0;
    for (name, file) in frozen().iter().filter(|(_, file)| file["from"] == "client") {
        if file.get("hex").is_some() {
            let (number, sample) = decode_samples(&bytes(&file["hex"])).unwrap();
            let last = file["meaning"]["records"].as_array().unwrap().last();
            assert_eq!(file["meaning"]["number"], number, "{name}");
            let last = last.unwrap();
            let [t, x, y] = ["time_ms", "x", "y"].map(|field| last[field].as_f64().unwrap());
            assert_eq!(sample, Sample::new(t as u16, x as f32, y as f32), "{name}");
        } else {
            let text = file["message"].to_string();
            let said = parse(text.as_bytes()).unwrap_or_else(|close| panic!("{name}: {close:?}"));
            let kind = match said {
                ClientMessage::Hello(version) => {
                    assert_eq!(version, 1);
                    "hello"
                }
                ClientMessage::Ping(_) => "ping",
                ClientMessage::Join(_) => "join",
                ClientMessage::Update(_) => "update",
                ClientMessage::Leave(_) => "leave",
                ClientMessage::Event(_) => "event",
                ClientMessage::Cursor(_) => "cursor",
            };
            assert_eq!(file["message"]["type"], kind, "{name}");
        }
        understood += 1;
    }
    assert_eq!(understood, 10);
}

/// The newest files are what a node says, as the tests of those show.
#[test]
fn every_message_to_an_older_client_is_said_as_before_with_more_in_it_at_most() {
    for (name, file) in frozen().iter().filter(|(_, file)| file["from"] == "server") {
        let newest = fixture(name);
        if let Some(hex) = file.get("hex") {
            assert_eq!(newest["hex"], *hex, "{name}");
        } else {
            let lost = missing(&file["message"], &newest["message"]);
            assert_eq!(lost, None, "{name}");
        }
    }
}

#[test]
fn the_version_is_the_lesser_of_what_client_and_node_speak() {
    for (said, version) in [
        ("", 1),
        (r#","protocol":1"#, 1),
        (r#","protocol":2"#, 2),
        (r#","protocol":9"#, VERSION),
        (r#","protocol":0"#, 1),
        // Words that version 1 did not look at.
        (r#","protocol":"2""#, 1),
        (r#","protocol":{"a":[]}"#, 1),
        (r#","protocol":-3"#, 1),
        (r#","protocol":1e3"#, 1),
        (r#","protocol":null"#, 1),
    ] {
        let text = format!(r#"{{"type":"hello","client":"x"{said}}}"#);
        match parse(text.as_bytes()) {
            Ok(ClientMessage::Hello(chosen)) => assert_eq!(chosen, version, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}
