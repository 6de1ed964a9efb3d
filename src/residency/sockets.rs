//! Where this process's connections go, as its kernel says: a library's word, or the other end's, is not enough.

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

const ESTABLISHED: &str = "01";
const LISTENING: &str = "0A";

/// Addresses to which this process has connections at a port.
pub(super) fn peers(port: u16) -> io::Result<Option<Vec<IpAddr>>> {
    if !cfg!(target_os = "linux") {
        return Ok(None);
    }
    let own = own_sockets()?;
    let mut table = std::fs::read_to_string("/proc/self/net/tcp")?;
    match std::fs::read_to_string("/proc/self/net/tcp6") {
        Ok(more) => table.push_str(&more),
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(Some(peers_in(&table, port, &own)))
}

fn own_sockets() -> io::Result<HashSet<u64>> {
    let mut own = HashSet::new();
    for file in std::fs::read_dir("/proc/self/fd")? {
        // One that was closed meanwhile is no connection any more.
        let Ok(target) = std::fs::read_link(file?.path()) else { continue };
        let inode = target.to_str().and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']'));
        own.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
    }
    Ok(own)
}

struct Socket<'a> {
    local_port: u16,
    remote: (IpAddr, u16),
    state: &'a str,
    inode: u64,
}

fn peers_in(table: &str, port: u16, own: &HashSet<u64>) -> Vec<IpAddr> {
    let sockets: Vec<_> =
        table.lines().filter_map(parse).filter(|socket| own.contains(&socket.inode)).collect();
    // A connection that was accepted may come from any port, also from this one.
    let accepting: HashSet<u16> =
        sockets.iter().filter(|s| s.state == LISTENING).map(|s| s.local_port).collect();
    let outgoing = sockets.iter().filter(|s| s.state == ESTABLISHED && !accepting.contains(&s.local_port));
    outgoing.filter(|socket| socket.remote.1 == port).map(|socket| socket.remote.0).collect()
}

/// `0: 0100007F:1538 0100007F:D2A0 01 … uid timeout inode`; the table's head is no such line.
fn parse(line: &str) -> Option<Socket<'_>> {
    let parts: Vec<&str> = line.split_whitespace().collect();
    let [_, local, remote, state, _, _, _, _, _, inode, ..] = parts.as_slice() else { return None };
    let (_, local_port) = address(local)?;
    Some(Socket { local_port, remote: address(remote)?, state, inode: inode.parse().ok()? })
}

/// Words of 32 bits in this machine's order of bytes.
fn address(text: &str) -> Option<(IpAddr, u16)> {
    let (hex, port) = text.split_once(':')?;
    let word = |at: usize| {
        let digits = hex.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let address = match hex.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (at, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at)?);
            }
            IpAddr::from(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some((address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn connections_are_seen_where_they_go_and_callers_are_not() {
        for loopback in ["127.0.0.3:0", "[::1]:0"] {
            let listener = TcpListener::bind(loopback).unwrap();
            let at = listener.local_addr().unwrap();
            assert_eq!(peers(at.port()).unwrap().unwrap(), Vec::<IpAddr>::new(), "nobody connected yet");
            let client = TcpStream::connect(at).unwrap();
            let (_accepted, from) = listener.accept().unwrap();
            assert_eq!(peers(at.port()).unwrap().unwrap(), [at.ip()]);
            // The accepted end is a connection to the caller's port, which the caller chose.
            assert_eq!(peers(from.port()).unwrap().unwrap(), Vec::<IpAddr>::new());
            drop(client);
        }
    }

    #[test]
    fn others_sockets_do_not_count() {
        let line = |inode| {
            format!("   0: 0100007F:9999 0100007F:1538 01 0 0 0 0 0 {inode} 1\n")
                .replace("0 0 0 0 0", "00:00 00:00 00 0 0")
        };
        let table = format!("  sl  local_address rem_address st\n{}{}", line(7), line(8));
        assert_eq!(peers_in(&table, 0x1538, &HashSet::from([8])).len(), 1);
        assert_eq!(peers_in(&table, 0x1539, &HashSet::from([8])).len(), 0);
    }
}
