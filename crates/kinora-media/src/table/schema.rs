//! Our columns as a schema of Parquet, and whether a file has just them.

use super::columns::{Column, Kind, TableRow};
use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::schema::types::{SchemaDescriptor, Type, TypePtr};
use std::sync::Arc;

/// A column with its place in a file.
pub struct Place<R> {
    /// The column.
    pub column: Box<dyn Column<R>>,
    /// Which of the file's columns it is.
    pub index: usize,
    /// The definition level of a value that is there.
    pub full: i16,
}

/// The schema of a file with these columns.
pub fn schema<R>(columns: &[Box<dyn Column<R>>]) -> TypePtr {
    let fields = columns
        .iter()
        .map(|column| Arc::new(field(column.as_ref())))
        .collect();
    let root = Type::group_type_builder("schema").with_fields(fields);
    Arc::new(root.build().expect("our columns make a schema"))
}

fn field<R>(column: &dyn Column<R>) -> Type {
    let repetition = if column.optional() {
        Repetition::OPTIONAL
    } else {
        Repetition::REQUIRED
    };
    let primitive = |name, repetition| {
        Type::primitive_type_builder(name, physical(column.kind()))
            .with_repetition(repetition)
            .with_logical_type((column.kind() == Kind::Text).then_some(LogicalType::String))
            .build()
            .expect("our kinds are types of Parquet")
    };
    if column.kind() != Kind::Floats {
        return primitive(column.name(), repetition);
    }
    let group = |name, repetition, field: Type| {
        Type::group_type_builder(name)
            .with_repetition(repetition)
            .with_fields(vec![Arc::new(field)])
    };
    // The three levels that the format wants of a list; readers know it by these names.
    let element = primitive("element", Repetition::REQUIRED);
    let list = group("list", Repetition::REPEATED, element);
    let list = list.build().expect("a group of one field");
    group(column.name(), repetition, list)
        .with_logical_type(Some(LogicalType::List))
        .build()
        .expect("a list of one group")
}

/// The physical type of a kind of column.
fn physical(kind: Kind) -> Physical {
    match kind {
        Kind::Text => Physical::BYTE_ARRAY,
        Kind::Int32 => Physical::INT32,
        Kind::Int64 => Physical::INT64,
        Kind::Float | Kind::Floats => Physical::FLOAT,
        Kind::Double => Physical::DOUBLE,
    }
}

/// Our columns with their places in a file, which must have exactly them.
pub fn matched<R: TableRow>(
    schema: &SchemaDescriptor,
) -> std::result::Result<Vec<Place<R>>, String> {
    let ours = R::columns();
    let fields = schema.root_schema().get_fields();
    let unknown = fields.iter().map(|field| field.name());
    let mut unknown = unknown.filter(|name| !ours.iter().any(|column| column.name() == *name));
    if let Some(name) = unknown.next() {
        let known: Vec<_> = ours.iter().map(|column| column.name()).collect();
        return Err(format!(
            "unknown column {name:?}: a table of {} has {}; take it out, or keep it in a table of its own beside clip_id",
            R::TABLE,
            known.join(", ")
        ));
    }
    ours.into_iter()
        .map(|column| {
            let mut places = (0..schema.num_columns())
                .filter(|&place| schema.get_column_root(place).name() == column.name());
            match (places.next(), places.next()) {
                (Some(index), None) => {
                    check_type(column.as_ref(), schema, index)?;
                    let full = schema.column(index).max_def_level();
                    Ok(Place {
                        column,
                        index,
                        full,
                    })
                }
                (None, _) => Err(format!(
                    "column {:?} is missing: a table of {} must have it, empty or not",
                    column.name(),
                    R::TABLE
                )),
                _ => Err(format!("column {:?} is there twice", column.name())),
            }
        })
        .collect()
}

fn check_type<R>(
    column: &dyn Column<R>,
    schema: &SchemaDescriptor,
    place: usize,
) -> std::result::Result<(), String> {
    let found = schema.column(place);
    let is_list = column.kind() == Kind::Floats;
    let is_text = found.logical_type_ref() == Some(&LogicalType::String)
        || found.converted_type() == ConvertedType::UTF8;
    let fits = found.physical_type() == physical(column.kind())
        && found.max_rep_level() == i16::from(is_list)
        && (is_list || found.path().parts().len() == 1)
        && (column.kind() == Kind::Text) == is_text;
    if fits {
        return Ok(());
    }
    Err(format!(
        "column {:?}: expected {}, found {}{} {}",
        column.name(),
        described(column.kind()),
        if found.max_rep_level() > 0 {
            "a list of "
        } else {
            ""
        },
        found.physical_type(),
        if is_text { "(text)" } else { "" },
    ))
}

fn described(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "BYTE_ARRAY (text)",
        Kind::Int32 => "INT32",
        Kind::Int64 => "INT64",
        Kind::Float => "FLOAT",
        Kind::Double => "DOUBLE",
        Kind::Floats => "a list of FLOAT",
    }
}
