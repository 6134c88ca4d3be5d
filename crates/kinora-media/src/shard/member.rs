//! Members of a tar file: a header block of 512 bytes (POSIX.1-1988, "ustar"), then the bytes,
//! filled up to whole blocks. Two empty blocks end the file.

use std::io::{self, Read, Write};
use tar::{EntryType, Header};

/// Bytes of a block.
pub const BLOCK: u64 = 512;
/// Bytes of the end of a tar file.
pub const END: u64 = 2 * BLOCK;
/// Longest name that fits a header without the extensions that not every reader knows.
pub const NAME_MAX: usize = 100;
/// Sizes are eleven octal digits.
pub const SIZE_MAX: u64 = (1 << 33) - 1;

/// Bytes a member takes with its header and filling.
pub fn taken(size: u64) -> u64 {
    BLOCK + size.next_multiple_of(BLOCK)
}

/// Writes a member of exactly `size` bytes.
pub fn write(out: &mut dyn Write, name: &str, size: u64, bytes: &mut dyn Read) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_size(size);
    header.set_entry_type(EntryType::Regular);
    // What would differ from one machine or day to the next is the same for all.
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    out.write_all(header.as_bytes())?;
    let copied = io::copy(&mut bytes.take(size), out)?;
    if copied != size {
        let message = format!("it became shorter while it was read: {copied} of {size} bytes");
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
    }
    let filling = (size.next_multiple_of(BLOCK) - size) as usize;
    out.write_all(&[0; BLOCK as usize][..filling])
}

/// Counts a checksum of what passes.
pub struct Summed<'a> {
    out: &'a mut dyn Write,
    hasher: crc32fast::Hasher,
}

impl<'a> Summed<'a> {
    /// Over a writer that takes what passes.
    pub fn over(out: &'a mut dyn Write) -> Summed<'a> {
        Summed {
            out,
            hasher: crc32fast::Hasher::new(),
        }
    }

    /// CRC-32 of what has passed.
    pub fn sum(self) -> u32 {
        self.hasher.finalize()
    }
}

impl Write for Summed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A member as it was read: its name and its bytes.
pub type Member = (String, Vec<u8>);

/// Reads the next file among the members; none at the end of the archive. `left` is how many bytes
/// of the archive are still to come, and is counted down.
///
/// # Errors
/// What is wrong, in words, where the archive ends early, a header is damaged, or a member is
/// something else than a file.
pub fn read(input: &mut dyn Read, left: &mut u64) -> Result<Option<Member>, String> {
    loop {
        let Some(header) = read_header(input, left)? else {
            return Ok(None);
        };
        let size = header.entry_size().map_err(|error| error.to_string())?;
        let name = String::from_utf8(header.path_bytes().into_owned())
            .map_err(|_| "a member has a name that is not text".to_owned())?;
        let filled = size
            .checked_next_multiple_of(BLOCK)
            .filter(|filled| *filled <= *left);
        let Some(filled) = filled else {
            return Err(format!(
                "it is shortened: member {name} should have {size} bytes, {left} are left"
            ));
        };
        let mut bytes = vec![0; filled as usize];
        read_exact(input, &mut bytes, left)?;
        bytes.truncate(size as usize);
        match header.entry_type() {
            EntryType::Regular | EntryType::Continuous => return Ok(Some((name, bytes))),
            // Python's tar files carry finer times in such headers; only a name or a size would matter.
            EntryType::XHeader | EntryType::XGlobalHeader if !says_more(&bytes) => {}
            EntryType::Directory => {}
            other => {
                return Err(format!(
                    "member {name} is no plain file ({other:?}); write the shard as plain ustar"
                ));
            }
        }
    }
}

/// Whether an extended header (POSIX.1-2001, "pax") changes the name or the size of what follows.
fn says_more(bytes: &[u8]) -> bool {
    [b" path=".as_slice(), b" size="]
        .iter()
        .any(|key| bytes.windows(key.len()).any(|window| window == *key))
}

fn read_header(input: &mut dyn Read, left: &mut u64) -> Result<Option<Header>, String> {
    let mut block = [0; BLOCK as usize];
    read_exact(input, &mut block, left)?;
    if block == [0; BLOCK as usize] {
        read_exact(input, &mut block, left)?;
        if block != [0; BLOCK as usize] {
            return Err("a single empty block stands where two should end it".to_owned());
        }
        return Ok(None);
    }
    let header = Header::from_byte_slice(&block);
    // The sum is that of the block with blanks in place of the sum itself.
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(place, &byte)| {
            u32::from(if (148..156).contains(&place) {
                b' '
            } else {
                byte
            })
        })
        .sum();
    match header.cksum() {
        Ok(written) if written == sum => Ok(Some(header.clone())),
        _ => Err("the header of a member is damaged: its checksum does not match".to_owned()),
    }
}

fn read_exact(input: &mut dyn Read, bytes: &mut [u8], left: &mut u64) -> Result<(), String> {
    input.read_exact(bytes).map_err(|error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            "it is shortened: it ends before its end mark".to_owned()
        } else {
            error.to_string()
        }
    })?;
    *left = left.saturating_sub(bytes.len() as u64);
    Ok(())
}
