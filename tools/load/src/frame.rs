//! WebSocket frames as a client writes and reads them (RFC 6455, 5.2), without a copy.
//!
//! A general library would draw a mask and unmask a copy for each frame. Here the mask is zero,
//! which the standard allows and which costs a server as much as any other; so what is sent is
//! the text itself, and many frames go out in one write.

/// The longest frame that is read, in bytes: ten times what a broker takes.
pub const MAX_FRAME_BYTES: usize = 10_000_000;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// UTF-8 text: a packet of Engine.IO.
    Text,
    /// Bytes; brokers send none.
    Binary,
    /// A close.
    Close,
    /// Asks for a pong.
    Ping,
    /// Answers a ping.
    Pong,
}

impl Opcode {
    fn number(self) -> u8 {
        match self {
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        [Self::Text, Self::Binary, Self::Close, Self::Ping, Self::Pong]
            .into_iter()
            .find(|opcode| opcode.number() == number)
    }
}

/// One frame from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is for.
    pub opcode: Opcode,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Why what a server sent is no frame that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A message in parts: brokers send each in one frame.
    #[error("the server sent a message in fragments")]
    Fragmented,
    /// Reserved bits, an opcode that does not exist, or a masked frame.
    #[error("the server sent a frame that is not valid")]
    Invalid,
    /// Longer than [`MAX_FRAME_BYTES`].
    #[error("the server sent a frame of {0} bytes")]
    TooLong(u64),
}

/// The first frame in `bytes` and its length with the header; none if it is not complete yet.
///
/// # Errors
/// See [`FrameError`].
pub fn parse(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & 0x80 == 0 || first & 0x0f == 0 {
        return Err(FrameError::Fragmented);
    }
    let opcode = Opcode::from_number(first & 0x0f).ok_or(FrameError::Invalid)?;
    if first & 0x70 != 0 || second & 0x80 != 0 {
        return Err(FrameError::Invalid);
    }
    let (length, rest) = match second {
        126 => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from_be_bytes(*length), rest),
            None => return Ok(None),
        },
        length => (u64::from(*length), rest),
    };
    let within = usize::try_from(length).ok().filter(|length| *length <= MAX_FRAME_BYTES);
    let length = within.ok_or(FrameError::TooLong(length))?;
    let header = bytes.len() - rest.len();
    Ok(rest.get(..length).map(|payload| (Frame { opcode, payload }, header + length)))
}

/// Appends a frame to `out`.
pub fn write(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | opcode.number());
    match payload.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length @ 126..65536 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server would send: as written, without the mask.
    fn from_server(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(opcode, payload, &mut bytes);
        let mask_at = bytes.len() - payload.len() - 4;
        bytes.drain(mask_at..mask_at + 4);
        bytes[1] &= 0x7f;
        bytes
    }

    #[test]
    fn every_length_comes_back() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 200_000] {
            let payload = vec![b'x'; length];
            let mut bytes = from_server(Opcode::Text, &payload);
            let whole = bytes.len();
            bytes.extend_from_slice(b"next");
            let (frame, taken) = parse(&bytes).unwrap().unwrap();
            assert_eq!(frame, Frame { opcode: Opcode::Text, payload: &payload });
            assert_eq!(taken, whole);
            for cut in [0, 1, 2, 3, 9, whole - 1] {
                assert_eq!(parse(&bytes[..cut.min(whole - 1)]), Ok(None), "{length} cut at {cut}");
            }
        }
    }

    #[test]
    fn every_opcode_comes_back() {
        for opcode in [Opcode::Text, Opcode::Binary, Opcode::Close, Opcode::Ping, Opcode::Pong] {
            let bytes = from_server(opcode, b"ab");
            assert_eq!(parse(&bytes).unwrap().unwrap().0.opcode, opcode);
        }
    }

    #[test]
    fn frames_are_masked_with_zero() {
        let mut bytes = Vec::new();
        write(Opcode::Text, b"hi", &mut bytes);
        assert_eq!(bytes, [0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        assert_eq!(parse(&[0x01, 0]), Err(FrameError::Fragmented));
        assert_eq!(parse(&[0x80, 0]), Err(FrameError::Fragmented));
        assert_eq!(parse(&[0x83, 0]), Err(FrameError::Invalid));
        assert_eq!(parse(&[0xc1, 0]), Err(FrameError::Invalid));
        assert_eq!(parse(&[0x81, 0x80]), Err(FrameError::Invalid));
        let long = [0x81, 127, 0, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(parse(&long), Err(FrameError::TooLong(1 << 32)));
    }
}
