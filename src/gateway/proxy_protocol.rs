//! The PROXY protocol, versions 1 and 2: a header before the first byte of a connection, in which a
//! proxy that does not parse HTTP names the client's address (haproxy's proxy-protocol.txt).

use std::net::{IpAddr, SocketAddr};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Whether trusted proxies send a header (`PROXY_PROTOCOL`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyProtocol {
    /// They send none.
    #[default]
    Off,
    /// They may send one.
    Optional,
    /// They always send one; a connection without is closed.
    Required,
}

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest header of version 1, in bytes, with its line end.
const MAX_V1_BYTES: usize = 107;

/// The longest header of version 2, in bytes. The addresses take 52; the rest is for extensions.
const MAX_V2_BYTES: usize = 4096;

/// What a header says.
#[derive(Debug, PartialEq, Eq)]
enum Header {
    /// There is none.
    Absent,
    /// The connection is the proxy's own, or of a kind that has no address.
    Local,
    /// The address of the client.
    Client(SocketAddr),
}

/// Why a connection cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the PROXY header is missing, malformed or incomplete")]
pub(crate) struct BadHeader;

/// Reads the header that a trusted proxy sends. Returns the client's address, if there is one, and
/// what was read behind the header.
///
/// # Errors
/// [`BadHeader`], also if the connection ends.
pub(crate) async fn read_header(
    stream: &mut (impl AsyncRead + Unpin),
    mode: ProxyProtocol,
) -> Result<(Option<SocketAddr>, BytesMut), BadHeader> {
    let mut read = BytesMut::new();
    let header = loop {
        if let Some((header, length)) = parse(&read)? {
            read.advance(length);
            break header;
        }
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return Err(BadHeader);
        }
    };
    match header {
        Header::Absent if mode == ProxyProtocol::Required => Err(BadHeader),
        Header::Absent | Header::Local => Ok((None, read)),
        Header::Client(client) => Ok((Some(client), read)),
    }
}

/// Parses the start of a connection. Returns the header and its length in bytes; `None` if more has
/// to be read.
fn parse(read: &[u8]) -> Result<Option<(Header, usize)>, BadHeader> {
    let begins_with = |start: &[u8]| read.iter().zip(start).all(|(read, start)| read == start);
    if begins_with(V2_START) {
        parse_v2(read)
    } else if begins_with(V1_START) {
        parse_v1(read)
    } else {
        Ok(Some((Header::Absent, 0)))
    }
}

/// Parses a line like `PROXY TCP4 192.0.2.1 192.0.2.2 4711 443`.
fn parse_v1(read: &[u8]) -> Result<Option<(Header, usize)>, BadHeader> {
    let line = &read[..read.len().min(MAX_V1_BYTES)];
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return if read.len() < MAX_V1_BYTES { Ok(None) } else { Err(BadHeader) };
    };
    let line = str::from_utf8(&line[..end]).map_err(|_| BadHeader)?;
    let mut words = line.split(' ').skip(1);
    let header = match words.next() {
        Some("UNKNOWN") => Header::Local,
        Some("TCP4" | "TCP6") => {
            let address: Option<IpAddr> = words.next().and_then(|word| word.parse().ok());
            let port: Option<u16> = words.nth(1).and_then(|word| word.parse().ok());
            let (address, port) = address.zip(port).ok_or(BadHeader)?;
            Header::Client(SocketAddr::new(address.to_canonical(), port))
        }
        _ => return Err(BadHeader),
    };
    Ok(Some((header, end + 2)))
}

/// Parses the binary header: the signature, version and command, family, length, addresses.
fn parse_v2(read: &[u8]) -> Result<Option<(Header, usize)>, BadHeader> {
    let Some((&[version_and_command, family, high, low], rest)) =
        read.get(V2_START.len()..).and_then(|rest| rest.split_first_chunk())
    else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let header_bytes = read.len() - rest.len() + length;
    if version_and_command >> 4 != 2 || header_bytes > MAX_V2_BYTES {
        return Err(BadHeader);
    }
    let Some(addresses) = rest.get(..length) else { return Ok(None) };
    let header = match (version_and_command & 0xf, family) {
        (0, _) => Header::Local,
        (1, 0x11) => client::<4>(addresses).ok_or(BadHeader)?,
        (1, 0x21) => client::<16>(addresses).ok_or(BadHeader)?,
        (1, _) => Header::Local,
        _ => return Err(BadHeader),
    };
    Ok(Some((header, header_bytes)))
}

/// Parses two addresses of `BYTES` each, and two ports.
fn client<const BYTES: usize>(addresses: &[u8]) -> Option<Header>
where
    IpAddr: From<[u8; BYTES]>,
{
    let (address, rest) = addresses.split_first_chunk::<BYTES>()?;
    let ports: &[u8; 4] = rest.get(BYTES..)?.first_chunk()?;
    let (port, _) = ports.split_first_chunk()?;
    let address = IpAddr::from(*address).to_canonical();
    Some(Header::Client(SocketAddr::new(address, u16::from_be_bytes(*port))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = (addresses.len() as u16).to_be_bytes();
        [V2_START, &[0x20 | command, family], &length, addresses].concat()
    }

    fn is_client(header: &[u8], client: &str) {
        let expected = Header::Client(client.parse().unwrap());
        let with_more = [header, b"GET /"].concat();
        assert_eq!(parse(&with_more), Ok(Some((expected, header.len()))));
        // Every prefix of a header is incomplete, not invalid.
        assert!((1..header.len()).all(|cut| parse(&header[..cut]) == Ok(None)));
    }

    #[test]
    fn headers_name_the_client() {
        is_client(b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n", "192.0.2.1:4711");
        is_client(b"PROXY TCP6 2001:db8::1 ::1 4711 443\r\n", "[2001:db8::1]:4711");
        let ipv4 = [192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x67, 1, 187];
        is_client(&v2(1, 0x11, &ipv4), "192.0.2.1:4711");
        is_client(&v2(1, 0x11, &[&ipv4[..], &[4, 0, 1, 0]].concat()), "192.0.2.1:4711");
        let mut ipv6 = [0; 36];
        (ipv6[15], ipv6[32], ipv6[33]) = (1, 0x12, 0x67);
        is_client(&v2(1, 0x21, &ipv6), "[::1]:4711");
    }

    #[test]
    fn connections_of_the_proxy_itself_have_no_client() {
        for header in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN a b c\r\n"] {
            assert_eq!(parse(header), Ok(Some((Header::Local, header.len()))));
        }
        for header in [v2(0, 0, &[]), v2(0, 0x11, &[1; 40]), v2(1, 0x31, &[0; 216])] {
            assert_eq!(parse(&header), Ok(Some((Header::Local, header.len()))));
        }
    }

    #[test]
    fn malformed_headers_are_errors_and_others_are_none() {
        let unending = [&b"PROXY TCP4 "[..], &[b'1'; 107]].concat();
        for header in [
            &b"PROXY \r\n"[..],
            b"PROXY TCP4 192.0.2.1\r\n",
            b"PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
            &unending,
            &v2(2, 0x11, &[0; 12]),
            &v2(1, 0x11, &[0; 11]),
            &v2(1, 0x21, &[0; 35]),
            &v2(0, 0, &[0; 4081]),
        ] {
            assert_eq!(parse(header), Err(BadHeader), "{header:?}");
        }
        for start in [&b"GET / HTTP/1.1\r\n"[..], b"POST", b"PROPFIND / ", b"\r\nGET"] {
            assert_eq!(parse(start), Ok(Some((Header::Absent, 0))), "{start:?}");
        }
    }

    #[tokio::test]
    async fn required_is_required() {
        let request = b"GET / HTTP/1.1\r\n";
        let optional = read_header(&mut &request[..], ProxyProtocol::Optional).await.unwrap();
        assert_eq!((optional.0, &optional.1[..]), (None, &request[..]));
        for cut_off in [&request[..], b"PROXY TCP4 192.0.2.1", b""] {
            let required = read_header(&mut &cut_off[..], ProxyProtocol::Required).await;
            assert_eq!(required.unwrap_err(), BadHeader);
        }
    }

    proptest! {
        #[test]
        fn every_start_is_parsed(
            start in prop::sample::select(&[V1_START, V2_START, b""][..]),
            rest in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let _ = parse(&[start, &rest].concat());
        }
    }
}
