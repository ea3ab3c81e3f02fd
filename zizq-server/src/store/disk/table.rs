//! Reads a table of fjall (`lsm-tree` 3) without trusting it: block by block, each with its own checksum.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use lsm_tree::coding::Decode;
use lsm_tree::table::block::{BlockType, Header};
use lsm_tree::table::util::SliceIndexes;
use lsm_tree::table::{Block, DataBlock, Writer};
use lsm_tree::{Cache, Checksum, CompressionType, InternalValue, SeqNo, Table, ValueType};
use xxhash_rust::xxh3::xxh3_64;

use crate::store::keys::{self, Key};

/// The start of every block.
const MAGIC: &[u8] = b"LSM\x03";

/// What can be read of a table.
#[derive(Default)]
pub(super) struct Contents {
    pub entries: Vec<InternalValue>,
    pub lost: Vec<Lost>,
    pub compression: Option<CompressionType>,
}

/// An unreadable part of a table: between two keys, or up to the start or the end of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    pub bytes: Range<usize>,
    pub after: Option<Key>,
    pub before: Option<Key>,
}

impl Lost {
    pub(super) fn covers(&self, key: &[u8]) -> bool {
        self.after.as_ref().is_none_or(|after| key >= &after[..])
            && self.before.as_ref().is_none_or(|before| key <= &before[..])
    }
}

/// Reads everything that is readable.
///
/// # Errors
/// When the file itself cannot be read.
pub(super) fn read(file: &Path) -> io::Result<Contents> {
    let bytes = fs::read(file)?;
    let known = open(file).ok().map(|table| table.metadata.data_block_compression);
    let mut contents = Contents { compression: known, ..Contents::default() };
    let (mut at, mut lost_at) = (0, None);
    loop {
        match block(&bytes, at, known) {
            Found::Entries { entries, end, compression } => {
                contents.close(lost_at.take(), at, entries.first());
                contents.entries.extend(entries);
                contents.compression = contents.compression.or(Some(compression));
                at = end;
            }
            // After the entries.
            Found::Other if at > 0 || lost_at.is_some() => {
                contents.close(lost_at.take(), at, None);
                break;
            }
            Found::Damaged { end } => {
                lost_at.get_or_insert(at);
                at = end;
            }
            Found::Other | Found::Nothing => {
                lost_at.get_or_insert(at);
                let next = bytes.get(at + 1..).and_then(|rest| memchr::memmem::find(rest, MAGIC));
                let Some(next) = next else {
                    contents.close(lost_at.take(), bytes.len(), None);
                    break;
                };
                at += 1 + next;
            }
        }
    }
    if !contents.lost.is_empty() {
        contents.bound(file);
    }
    Ok(contents)
}

impl Contents {
    /// Ends a lost part before this entry.
    fn close(&mut self, lost_at: Option<usize>, end: usize, next: Option<&InternalValue>) {
        let Some(start) = lost_at else { return };
        let key = |entry: &InternalValue| Key::from_slice(&entry.key.user_key);
        let (after, before) = (self.entries.last().map(key), next.map(key));
        self.lost.push(Lost { bytes: start..end, after, before });
    }

    /// Forgets the number of the last commit, if it may be lost: an older one would be wrong.
    pub(super) fn forget_commits(&mut self) {
        let key = keys::commits();
        if self.lost.iter().any(|lost| lost.covers(&key)) {
            let seqno = self.entries.iter().map(|entry| entry.key.seqno).max().unwrap_or(0);
            let at = self.entries.partition_point(|entry| entry.key.user_key[..] < key[..]);
            let unknown = InternalValue::from_components(key.as_slice(), &[][..], seqno, ValueType::Value);
            self.entries.insert(at, unknown);
        }
    }

    /// Bounds a part that is lost at the start or the end of the table by the table's own key range, if that is
    /// readable.
    fn bound(&mut self, file: &Path) {
        let Ok(table) = open(file) else { return };
        let range = &table.metadata.key_range;
        for lost in &mut self.lost {
            lost.after.get_or_insert_with(|| Key::from_slice(range.min()));
            lost.before.get_or_insert_with(|| Key::from_slice(range.max()));
        }
    }
}

enum Found {
    Entries {
        entries: Vec<InternalValue>,
        end: usize,
        compression: CompressionType,
    },
    /// A block of another kind.
    Other,
    /// A block with damaged contents or a damaged kind.
    Damaged {
        end: usize,
    },
    /// No block begins here.
    Nothing,
}

fn block(bytes: &[u8], at: usize, known: Option<CompressionType>) -> Found {
    let Some(mut rest) = bytes.get(at..) else { return Found::Nothing };
    let Ok(header) = Header::decode_from(&mut &*rest) else { return Found::Nothing };
    if header.block_type != BlockType::Data {
        return Found::Other;
    }
    let len = Header::serialized_len().saturating_add(header.data_length as usize);
    let end = at.saturating_add(len).min(bytes.len());
    let is_plain = header.data_length == header.uncompressed_length;
    let guessed = if is_plain { CompressionType::None } else { CompressionType::Lz4 };
    let compression = known.unwrap_or(guessed);
    match Block::from_reader(&mut rest, compression) {
        Ok(block) => {
            let entries = entries(&DataBlock::new(block));
            entries.map_or(Found::Damaged { end }, |entries| Found::Entries { entries, end, compression })
        }
        Err(_) => Found::Damaged { end },
    }
}

fn entries(block: &DataBlock) -> Option<Vec<InternalValue>> {
    let bytes = block.as_slice();
    let part = |SliceIndexes(from, to): &SliceIndexes| bytes.get(*from..*to);
    let entry = |item: lsm_tree::table::data_block::DataBlockParsedItem| {
        let mut key = item.prefix.as_ref().map_or(Some(&[][..]), part)?.to_vec();
        key.extend_from_slice(part(&item.key)?);
        let value = item.value.as_ref().map_or(Some(&[][..]), part)?;
        (!key.is_empty()).then(|| InternalValue::from_components(key, value, item.seqno, item.value_type))
    };
    block.iter().map(entry).collect()
}

/// Whether all of a table is readable, including by fjall.
///
/// # Errors
/// When the file itself cannot be read.
pub(super) fn is_intact(file: &Path) -> io::Result<bool> {
    let contents = read(file)?;
    let Ok(table) = open(file) else { return Ok(false) };
    let read = table.iter().try_fold(0, |count, entry| entry.map(|_| count + 1));
    let is_whole = contents.lost.is_empty() && read.ok() == Some(contents.entries.len());
    Ok(is_whole && is_found(&table, &contents.entries))
}

/// Whether entries are found by their keys. That uses filters, which have many parts that are read when needed.
fn is_found(table: &Table, entries: &[InternalValue]) -> bool {
    let some = entries.iter().step_by(PROBED).chain(entries.last());
    some.into_iter().all(|entry| {
        let key = &entry.key.user_key;
        matches!(table.get(key, SeqNo::MAX, xxh3_64(key)), Ok(Some(_)))
    })
}

/// One in this many entries is looked up; a part of a filter covers thousands.
const PROBED: usize = 64;

/// Whether fjall can open it.
pub(super) fn opens(file: &Path) -> bool {
    open(file).is_ok()
}

fn open(file: &Path) -> lsm_tree::Result<Table> {
    let cache = Arc::new(Cache::with_capacity_bytes(0));
    Table::recover(file.to_owned(), Checksum::from_raw(0), 0, 0, cache, None, true, true)
}

/// Writes a table with the entries in their order. There must be at least one.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(
    file: &Path,
    id: u64,
    compression: CompressionType,
    entries: Vec<InternalValue>,
) -> lsm_tree::Result<()> {
    if file.exists() {
        fs::remove_file(file)?;
    }
    let mut writer = Writer::new(file.to_owned(), id, 0)?.use_data_block_compression(compression);
    for entry in entries {
        writer.write(entry)?;
    }
    writer.finish().map(drop)
}
