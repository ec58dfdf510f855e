//! Bytes from outside, arbitrary ones and good ones with mistakes, do no harm: what `fuzz/` does at length, in short.

#[path = "inputs/bodies.rs"]
mod bodies;

use proptest::prelude::*;

/// Good input of each kind.
const XMLRPC: &[&str] = &[
    "<?xml version='1.0'?><methodCall><methodName>supervisor.startProcess</methodName><params><param><value>\
     <string>g:p</string></value></param><param><value><boolean>1</boolean></value></param></params></methodCall>",
    "<methodCall><methodName>system.multicall</methodName><params><param><value><array><data><value><struct>\
     <member><name>methodName</name><value>supervisor.tailProcessStdoutLog</value></member><member><name>params\
     </name><value><array><data><value>a</value><value><int>-5</int></value><value><i4>7</i4></value></data></array>\
     </value></member></struct></value></data></array></value></param></params></methodCall>",
    "<methodCall><methodName>supervisor.sendProcessStdin</methodName><params><param><value>a&amp;&#65;</value></param>\
     <param><value><base64>aGVsbG8=</base64></value></param></params></methodCall>",
];
const CONFIG: &[&str] = &[
    "[unix_http_server]\nfile=/tmp/s.sock ; comment\nchmod=0700\n[supervisord]\nlogfile=%(here)s/l\nenvironment=A=\"b\",C=1\n",
    "[program:a]\ncommand=/bin/cat %(ENV_HOME)s %(process_num)02d\nprocess_name=%(program_name)s_%(process_num)d\n\
     numprocs=3\nnumprocs_start=2\nexitcodes=0,2\nstopsignal=QUIT\nstdout_logfile_maxbytes=5MB\nuser=root\n\
     [group:g]\nprograms=a\npriority=5\n",
    "[fcgi-program:f]\ncommand=x\nsocket=unix:///tmp/f.sock\nsocket_owner=root:root\n[eventlistener:e]\ncommand=y\n\
     events=TICK_5,PROCESS_STATE\nbuffer_size=3\n[include]\nfiles=*.conf\n[rpcinterface:supervisor]\n\
     supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n",
];

/// Bytes with a few of them changed, left out, added or repeated.
fn mutated(text: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), 0..5u8, any::<u8>());
    prop::collection::vec(change, 0..6).prop_map(move |changes| {
        let mut bytes = text.to_vec();
        for (index, kind, byte) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = index.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => bytes.insert(at, byte),
                3 => drop(bytes.drain(at..(at + usize::from(byte % 16)).min(bytes.len()))),
                _ => {
                    let part = bytes[at..(at + usize::from(byte)).min(bytes.len())].to_vec();
                    bytes.extend(part);
                }
            }
        }
        bytes
    })
}

/// Arbitrary bytes, or one of these texts with mistakes.
fn bytes_like(texts: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let good = prop::sample::select(texts).prop_flat_map(|text| mutated(text.as_bytes()));
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..300), 4 => good]
}

/// The encoded message of a request for a log with a place in it, a list of names, and a signal.
fn any_message() -> impl Strategy<Value = Vec<u8>> {
    use prost::Message as _;
    use supervisor_proto::v1;
    let names = prop::collection::vec(".{0,12}", 0..4);
    (any::<(i64, i64, u64, i32)>(), ".{0,20}", names).prop_map(|((a, b, c, kind), text, names)| {
        let source = Some(v1::LogSource { process: text.clone(), channel: kind });
        match kind % 4 {
            0 => v1::ReadLogRequest { source, offset: a, length: b }.encode_to_vec(),
            1 => {
                let position = Some(v1::LogPosition { device: c, inode: c, offset: c });
                v1::FollowLogRequest { source, backlog: a, position }.encode_to_vec()
            }
            2 => v1::SignalRequest { names, signal: text }.encode_to_vec(),
            _ => v1::StreamEventsRequest { types: names }.encode_to_vec(),
        }
    })
}

/// A journal as the first versions wrote it.
const JOURNALS: &[&str] = &[
    include_str!("../../tests/journals/format-0"),
    include_str!("../../tests/journals/format-1"),
    include_str!("../../tests/journals/format-2"),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn xmlrpc_requests_do_no_harm(body in bytes_like(XMLRPC)) {
        bodies::xmlrpc_request(&body);
    }

    #[test]
    fn grpc_requests_do_no_harm(
        message in prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..200), 2 => any_message()],
    ) {
        bodies::grpc_request(&message);
    }

    #[test]
    fn configurations_do_no_harm(text in bytes_like(CONFIG)) {
        bodies::config_text(&text);
    }

    #[test]
    fn journals_do_no_harm(text in bytes_like(JOURNALS)) {
        bodies::journal(&text);
    }
}
