//! How the fields of a row become the cells of columns and come back.

use super::rows::{ClipRow, CutKind, CutRow, DropRow, IndexRow, SourceRow, Status};
use std::borrow::Cow;
use std::marker::PhantomData;

/// What a column holds; each is one physical type of Parquet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// BYTE_ARRAY, annotated as a string.
    Text,
    /// INT32.
    Int32,
    /// INT64.
    Int64,
    /// FLOAT.
    Float,
    /// DOUBLE.
    Double,
    /// A list of FLOAT.
    Floats,
}

/// One value of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'a> {
    /// No value.
    Empty,
    /// Words.
    Text(Cow<'a, str>),
    /// A whole number; all of ours count something.
    Integer(u64),
    /// A real number of either width.
    Real(f64),
    /// An array.
    Floats(Cow<'a, [f32]>),
}

/// A type that fills one column.
pub trait Value {
    /// What the column holds.
    const KIND: Kind;
    /// Whether a cell may be empty.
    const OPTIONAL: bool = false;

    /// The value as a cell.
    fn cell(&self) -> Cell<'_>;

    /// The value of a cell, or what is wrong with it.
    fn take(&mut self, cell: Cell<'static>) -> Result<(), String>;
}

/// One column of the rows `R`.
pub trait Column<R>: Sync + Send {
    /// Its name in the file.
    fn name(&self) -> &'static str;
    /// What it holds.
    fn kind(&self) -> Kind;
    /// Whether a cell may be empty.
    fn optional(&self) -> bool;
    /// The cell of a row.
    fn cell<'a>(&self, row: &'a R) -> Cell<'a>;
    /// Puts a cell into a row.
    fn put(&self, row: &mut R, cell: Cell<'static>) -> Result<(), String>;
}

/// A row of a table: one of the types of this module.
pub trait TableRow: Default + Clone + Send + 'static {
    /// What the table is called in messages.
    const TABLE: &'static str;

    /// Its columns, in the order of the file.
    #[doc(hidden)]
    fn columns() -> Vec<Box<dyn Column<Self>>>;

    /// Bytes of its long cells, by which groups of rows are kept small.
    #[doc(hidden)]
    fn long_bytes(&self) -> usize {
        0
    }
}

struct Field<R, V> {
    name: &'static str,
    get: fn(&R) -> &V,
    get_mut: fn(&mut R) -> &mut V,
    value: PhantomData<fn() -> V>,
}

impl<R, V: Value + 'static> Column<R> for Field<R, V> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn kind(&self) -> Kind {
        V::KIND
    }

    fn optional(&self) -> bool {
        V::OPTIONAL
    }

    fn cell<'a>(&self, row: &'a R) -> Cell<'a> {
        (self.get)(row).cell()
    }

    fn put(&self, row: &mut R, cell: Cell<'static>) -> Result<(), String> {
        (self.get_mut)(row).take(cell)
    }
}

impl Value for String {
    const KIND: Kind = Kind::Text;

    fn cell(&self) -> Cell<'_> {
        Cell::Text(Cow::Borrowed(self))
    }

    fn take(&mut self, cell: Cell<'static>) -> Result<(), String> {
        match cell {
            Cell::Text(words) => *self = words.into_owned(),
            other => return Err(unfit("words", &other)),
        }
        Ok(())
    }
}

impl Value for Vec<f32> {
    const KIND: Kind = Kind::Floats;

    fn cell(&self) -> Cell<'_> {
        Cell::Floats(Cow::Borrowed(self))
    }

    fn take(&mut self, cell: Cell<'static>) -> Result<(), String> {
        match cell {
            Cell::Floats(values) => *self = values.into_owned(),
            other => return Err(unfit("a list of numbers", &other)),
        }
        Ok(())
    }
}

macro_rules! whole_number {
    ($kind:expr => $($type:ty),+) => {$(
        impl Value for $type {
            const KIND: Kind = $kind;

            fn cell(&self) -> Cell<'_> {
                Cell::Integer(u64::from(*self))
            }

            fn take(&mut self, cell: Cell<'static>) -> Result<(), String> {
                match cell {
                    Cell::Integer(value) => {
                        *self = <$type>::try_from(value).map_err(|_| {
                            format!("expected a number up to {}, found {value}", <$type>::MAX)
                        })?;
                    }
                    other => return Err(unfit("a whole number", &other)),
                }
                Ok(())
            }
        }
    )+};
}

whole_number!(Kind::Int64 => u64, u32);
whole_number!(Kind::Int32 => u8);

macro_rules! real_number {
    ($kind:expr => $type:ty) => {
        impl Value for $type {
            const KIND: Kind = $kind;

            fn cell(&self) -> Cell<'_> {
                Cell::Real(f64::from(*self))
            }

            fn take(&mut self, cell: Cell<'static>) -> Result<(), String> {
                match cell {
                    Cell::Real(value) => *self = value as $type,
                    other => return Err(unfit("a number", &other)),
                }
                Ok(())
            }
        }
    };
}

real_number!(Kind::Float => f32);
real_number!(Kind::Double => f64);

/// A choice among few names, kept as its name.
macro_rules! named {
    ($type:ty: $($variant:ident = $name:literal),+) => {
        impl Value for $type {
            const KIND: Kind = Kind::Text;

            fn cell(&self) -> Cell<'_> {
                Cell::Text(Cow::Borrowed(match self { $(<$type>::$variant => $name),+ }))
            }

            fn take(&mut self, cell: Cell<'static>) -> Result<(), String> {
                *self = match &cell {
                    $(Cell::Text(name) if name == $name => <$type>::$variant,)+
                    other => return Err(unfit(concat!("one of", $(" ", $name),+), other)),
                };
                Ok(())
            }
        }
    };
}

named!(Status: Ok = "ok", Partial = "partial", Failed = "failed");
named!(CutKind: Hard = "hard", Fade = "fade", Gradual = "gradual");

impl<V: Value + Default> Value for Option<V> {
    const KIND: Kind = V::KIND;
    const OPTIONAL: bool = true;

    fn cell(&self) -> Cell<'_> {
        self.as_ref().map_or(Cell::Empty, Value::cell)
    }

    fn take(&mut self, cell: Cell<'static>) -> Result<(), String> {
        *self = match cell {
            Cell::Empty => None,
            cell => {
                let mut value = V::default();
                value.take(cell)?;
                Some(value)
            }
        };
        Ok(())
    }
}

fn unfit(expected: &str, found: &Cell<'_>) -> String {
    match found {
        Cell::Empty => format!("expected {expected}, found an empty cell"),
        Cell::Text(words) => format!("expected {expected}, found {words:?}"),
        Cell::Integer(value) => format!("expected {expected}, found {value}"),
        Cell::Real(value) => format!("expected {expected}, found {value}"),
        Cell::Floats(values) => format!("expected {expected}, found a list of {}", values.len()),
    }
}

/// The columns of a row, each named as its field or with a name of its own before it.
macro_rules! columns {
    (@name $name:literal $($field:ident).+) => { $name };
    (@name $field:ident) => { stringify!($field) };
    ($row:ty: $($($name:literal =)? $($field:ident).+),+ $(,)?) => {
        vec![$({
            let field: Box<dyn Column<$row>> = Box::new(Field {
                name: columns!(@name $($name)? $($field).+),
                get: |row: &$row| &row.$($field).+,
                get_mut: |row: &mut $row| &mut row.$($field).+,
                value: PhantomData,
            });
            field
        }),+]
    };
}

impl TableRow for ClipRow {
    const TABLE: &'static str = "clips";

    fn columns() -> Vec<Box<dyn Column<Self>>> {
        columns![ClipRow:
            clip_id, source, file, start_frame, end_frame, start_s, end_s, fps, width, height,
            motion_score, motion_bucket, text_area, embeddings, clip_similarity,
            similarity_image, similarity_video, similarity_merged, aesthetic,
            caption_image, caption_video, caption_merged, status, reason,
            "cuts_version" = versions.cuts,
            "motion_version" = versions.motion,
            "text_version" = versions.text,
            "clip_version" = versions.clip,
            "aesthetic_version" = versions.aesthetic,
            "caption_image_version" = versions.caption_image,
            "caption_video_version" = versions.caption_video,
            "caption_merged_version" = versions.caption_merged,
        ]
    }

    fn long_bytes(&self) -> usize {
        let captions = [
            &self.caption_image,
            &self.caption_video,
            &self.caption_merged,
        ];
        let words: usize = captions.into_iter().flatten().map(String::len).sum();
        words
            + self
                .embeddings
                .as_ref()
                .map_or(0, |values| 4 * values.len())
    }
}

impl TableRow for CutRow {
    const TABLE: &'static str = "cuts";

    fn columns() -> Vec<Box<dyn Column<Self>>> {
        columns![CutRow: source, frame, seconds, kind, score]
    }
}

impl TableRow for SourceRow {
    const TABLE: &'static str = "sources";

    fn columns() -> Vec<Box<dyn Column<Self>>> {
        columns![SourceRow:
            source, content, bytes, duration_s, frames, fps, width, height, codec, cuts, clips,
            status, reason,
        ]
    }
}

impl TableRow for DropRow {
    const TABLE: &'static str = "dropped clips";

    fn columns() -> Vec<Box<dyn Column<Self>>> {
        columns![DropRow: clip_id, rule, rules]
    }
}

impl TableRow for IndexRow {
    const TABLE: &'static str = "index of shards";

    fn columns() -> Vec<Box<dyn Column<Self>>> {
        columns![IndexRow:
            shard, clip_id, source, offset, size, crc32, ending, frames, duration_s, fps, width,
            height, motion_score, motion_bucket, text_area, clip_similarity, aesthetic, caption,
            caption_image, caption_video, caption_merged, weight_image, weight_video, weight_merged,
            latents,
        ]
    }

    fn long_bytes(&self) -> usize {
        let captions = [
            &self.caption,
            &self.caption_image,
            &self.caption_video,
            &self.caption_merged,
        ];
        captions.into_iter().flatten().map(String::len).sum()
    }
}
