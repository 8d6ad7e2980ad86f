//! What process 1 listens on, if it is this program: as such it runs in a container, where its
//! arguments, its `PORT` or its `.env` file may be others than those of the health check.
//!
//! Read from `/proc` (see proc(5)), which shows a process's files to others of the same user.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The state of a socket that listens, as `/proc/net/tcp` writes it (`TCP_LISTEN`).
const LISTEN: &str = "0A";

/// A process that is this program.
pub(super) struct Process {
    /// Whether it runs `crolang-broker peer`.
    pub(super) is_peer: bool,
    /// Where it listens.
    pub(super) addresses: Vec<SocketAddr>,
}

/// Process 1, if it is this program.
pub(super) fn first() -> Option<Process> {
    let program = fs::read_link("/proc/1/exe").ok()?;
    if program != fs::read_link("/proc/self/exe").ok()? {
        return None;
    }
    let arguments = fs::read("/proc/1/cmdline").ok()?;
    let is_peer = arguments.split(|byte| *byte == 0).nth(1) == Some(b"peer");
    let files = fs::read_dir("/proc/1/fd").ok()?.flatten();
    let sockets = files.filter_map(|file| {
        let target = fs::read_link(file.path()).ok()?;
        let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        Some(inode.to_owned())
    });
    let sockets: HashSet<String> = sockets.collect();
    let tables = ["/proc/1/net/tcp", "/proc/1/net/tcp6"].map(fs::read_to_string);
    let lines = tables.iter().flatten().flat_map(|table| table.lines());
    let listening = lines.filter_map(listening).filter(|(_, inode)| sockets.contains(*inode));
    Some(Process { is_peer, addresses: listening.map(|(address, _)| address).collect() })
}

/// The address and the inode of a line whose socket listens.
fn listening(line: &str) -> Option<(SocketAddr, &str)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    (*state == LISTEN).then_some(())?;
    let (ip, port) = address.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some((SocketAddr::new(ip_address(ip)?, port), inode))
}

/// An address is written in words of 32 bits, each as this machine stores it.
fn ip_address(text: &str) -> Option<IpAddr> {
    let mut bytes = Vec::new();
    for start in (0..text.len()).step_by(8) {
        let word = u32::from_str_radix(text.get(start..start + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let v4 = <[u8; 4]>::try_from(bytes.as_slice()).map(|bytes| Ipv4Addr::from(bytes).into());
    let v6 = <[u8; 16]>::try_from(bytes.as_slice()).map(|bytes| Ipv6Addr::from(bytes).into());
    v4.or(v6).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn listening_sockets_are_read_from_the_tables_of_the_kernel() {
        let v4 = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 10001 0 4711 1";
        assert_eq!(listening(v4), Some(("127.0.0.1:8080".parse().unwrap(), "4711")));
        let v6 = "   1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 12 1";
        assert_eq!(listening(v6), Some(("[::1]:80".parse().unwrap(), "12")));
        for line in [
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
            &v4.replace(" 0A ", " 01 "),
            "0: 0100007F",
            "",
        ] {
            assert_eq!(listening(line), None, "{line}");
        }
    }
}
