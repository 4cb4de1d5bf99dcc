//! Nodes of different versions of the protocol.

use super::*;

/// A node for each range of versions, with something to tell.
fn speaking(ranges: &[(u16, u16)]) -> Mesh {
    let mut mesh = Mesh::new(ranges.len());
    for (index, &(oldest, newest)) in ranges.iter().enumerate() {
        let config = Config {
            versions: Versions { oldest, newest },
            public: format!("public of {}", name(index)),
            ..config(index, ranges.len(), 1_000)
        };
        mesh.nodes[index].core = Core::new(config, mesh.now, index as u64);
    }
    mesh.run(3_000 * MS);
    mesh
}

/// The version of the link to each peer, and what is known to be told to users of it.
fn links(mesh: &Mesh, index: usize) -> Vec<(Option<u16>, String)> {
    let peers = mesh.nodes[index].core.overview(mesh.now).peers;
    peers
        .into_iter()
        .map(|peer| (peer.version, peer.public))
        .collect()
}

#[test]
fn a_link_has_the_newest_version_that_both_ends_speak() {
    let mut mesh = speaking(&[(1, 2), (1, 1), (1, 2)]);
    let told = |index| (Some(2), format!("public of {}", name(index)));
    let old = (Some(1), String::new());
    assert_eq!(links(&mesh, 0), [old.clone(), told(2)]);
    assert_eq!(links(&mesh, 1), [old.clone(), old.clone()]);
    assert_eq!(links(&mesh, 2), [told(0), old]);
    for index in 0..3 {
        mesh.local(index, Local::Join(row(index as u8, "a")));
    }
    mesh.run(1_000 * MS);
    for index in 0..3 {
        assert_eq!(mesh.shown(index).len(), 3);
        assert!(mesh.nodes[index].closes.is_empty());
    }
}

#[test]
fn what_a_node_tells_ends_with_its_link() {
    let mut mesh = speaking(&[(1, 2), (1, 2)]);
    assert_eq!(links(&mesh, 0)[0].1, "public of n2");
    mesh.cut(0, 1);
    assert_eq!(links(&mesh, 0), [(None, String::new())]);
}

#[test]
fn versions_with_nothing_in_common_refuse_each_other_and_name_both_ranges() {
    let mut mesh = speaking(&[(1, 1), (2, 3)]);
    let mut said = Vec::new();
    for index in 0..2 {
        assert_eq!(mesh.nodes[index].core.up_conns(), []);
        let refused = mesh.events(index).into_iter().filter_map(|event| {
            if let Event::Refused { peer, code, reason } = event {
                assert_eq!((peer, code), (name(1 - index), CloseCode::Version));
                Some((index, reason))
            } else {
                None
            }
        });
        said.extend(refused);
    }
    // Whoever hears the other first closes, and the other may hear no more than that.
    let reasons = [
        (
            0,
            "it speaks protocol versions 2 to 3, this node 1 to 1".to_owned(),
        ),
        (
            1,
            "it speaks protocol versions 1 to 1, this node 2 to 3".to_owned(),
        ),
    ];
    assert!(!said.is_empty());
    assert!(said.iter().all(|one| reasons.contains(one)), "{said:?}");
}

#[test]
fn the_rest_of_a_hello_with_no_version_in_common_need_not_be_understood() {
    let mut mesh = Mesh::new(1);
    let closes = |mesh: &mut Mesh, conn, bytes: &'static [u8]| {
        let conn = ConnId(conn);
        mesh.input(
            0,
            Input::Connected {
                conn,
                peer: name(1),
                addr: addr(1),
                dialled: false,
            },
        );
        let (lane, bytes) = (Lane::Presence, Bytes::from_static(bytes));
        mesh.input(0, Input::Frame { conn, lane, bytes });
        mesh.nodes[0].closes.pop().unwrap()
    };
    let (code, reason) = closes(&mut mesh, 7, &[1, 9, 8, 0xff, 0xff]);
    assert_eq!(code, CloseCode::Version);
    assert_eq!(
        reason,
        "it speaks protocol versions 8 to 9, this node 1 to 2"
    );
    let (code, _) = closes(&mut mesh, 9, &[1, 2, 1, 0xff, 0xff]);
    assert_eq!(code, CloseCode::Protocol);
    let (code, _) = closes(&mut mesh, 11, &[1]);
    assert_eq!(code, CloseCode::Protocol);
}

#[test]
fn what_a_peer_says_beyond_the_version_of_its_link_closes_it() {
    let mut mesh = speaking(&[(1, 2), (1, 1)]);
    let conn = mesh.nodes[0].core.link_to(&name(1)).unwrap().0;
    let bytes = Frame::Public("x".to_owned()).encode(2);
    let lane = Lane::Presence;
    mesh.input(0, Input::Frame { conn, lane, bytes });
    let (code, reason) = mesh.nodes[0].closes.last().unwrap();
    assert_eq!(*code, CloseCode::Protocol);
    assert_eq!(reason, "unknown frame kind 0x0b");
}

#[test]
fn what_overtakes_the_hello_is_read_in_the_version_that_the_hello_decides() {
    let mut mesh = Mesh::new(1);
    let conn = ConnId(7);
    mesh.input(
        0,
        Input::Connected {
            conn,
            peer: name(1),
            addr: addr(1),
            dialled: false,
        },
    );
    let early = Frame::Public("early".to_owned()).encode(2);
    for (lane, bytes) in [
        (Lane::Messages, early),
        // Skipped by who does not know it, before the Hello too.
        (Lane::Presence, Bytes::from_static(&[0x80 + 99, 1])),
        (
            Lane::Presence,
            Frame::Hello(Hello {
                version: 2,
                version_oldest: 1,
                ..hello_from(1)
            })
            .encode(1),
        ),
    ] {
        mesh.input(0, Input::Frame { conn, lane, bytes });
    }
    assert!(mesh.nodes[0].closes.is_empty());
    assert_eq!(links(&mesh, 0), [(Some(2), "early".to_owned())]);
}

#[test]
fn what_is_too_long_to_be_told_is_not_told() {
    let mut mesh = Mesh::new(2);
    let config = Config {
        public: "x".repeat(513),
        ..config(0, 2, 1_000)
    };
    mesh.nodes[0].core = Core::new(config, mesh.now, 1);
    mesh.run(3_000 * MS);
    assert_eq!(links(&mesh, 1), [(Some(2), String::new())]);
}
