//! What is told at the end of a run on a card: its memory, the weights that passed through it, and
//! whether the repeated step was captured.

use kinora_model::generate::Model;
use kinora_tensor::peak_device_bytes;
use serde_json::{Value, json};

/// In words and in fields.
///
/// # Errors
/// When the card cannot be asked.
pub fn told(
    model: &Model,
    captured: bool,
    refusal: Option<&str>,
) -> anyhow::Result<(String, Value)> {
    let peak_bytes = peak_device_bytes(model.compute.device())?;
    let of =
        |count: fn(&kinora_tensor::Residency) -> usize| model.residency.as_ref().map_or(0, count);
    let streamed_bytes = of(|residency| residency.streamed_bytes());
    let (copied_bytes, late) = (of(|r| r.copied_bytes()), of(|r| r.late()));
    let why = match (captured, refusal) {
        (true, _) => None,
        (false, Some(refusal)) => Some(refusal),
        (false, None) if streamed_bytes > 0 => Some("weights are brought as they are used"),
        (false, None) => Some("it was not repeated"),
    };
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    let mut text = format!("; {:.1} MiB of the card at most", mib(peak_bytes));
    if streamed_bytes > 0 {
        text += &format!(
            "; weights of {:.1} MiB were brought as they were used, {:.1} MiB in all, {late} copies \
             began no sooner",
            mib(streamed_bytes),
            mib(copied_bytes)
        );
    }
    text += &match why {
        None => "; the step was captured".to_owned(),
        Some(why) => format!("; the step was not captured: {why}"),
    };
    let fields = json!({
        "peak_device_mib": peak_bytes >> 20,
        "streamed_bytes": streamed_bytes, "copied_bytes": copied_bytes, "late_copies": late,
        "step_captured": captured, "not_captured_because": why,
    });
    Ok((text, fields))
}

/// Adds fields to others.
pub fn join(fields: &mut Value, more: Value) {
    if let (Some(fields), Value::Object(more)) = (fields.as_object_mut(), more) {
        fields.extend(more);
    }
}
