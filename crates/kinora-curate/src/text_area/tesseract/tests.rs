use super::*;
use crate::text_area::{TextJudge, covered_share};
use kinora_media::read_image;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/text_area")
        .join(name)
}

fn standing_in(name: &str, time_limit_s: f64) -> Tesseract {
    Tesseract::find(TesseractSettings {
        program: fixture(name),
        time_limit_s,
        ..TesseractSettings::default()
    })
    .unwrap()
}

fn picture() -> Rgb8Image {
    Rgb8Image::from_fn(64, 48, |x, y| [x as u8, y as u8, 0])
}

#[test]
fn a_table_gives_its_words() {
    let rows = [
        "1\t1\t0\t0\t0\t0\t0\t0\t640\t360\t-1\t",
        "4\t1\t1\t1\t1\t0\t60\t49\t400\t40\t-1\t",
        "5\t1\t1\t1\t1\t1\t60\t49\t238\t40\t96.0625\tSubscribe",
        "5\t1\t1\t1\t1\t2\t330\t50\t148\t50\t12\t~",
        "5\t1\t1\t1\t1\t3\t1\t2\t3\t4\t5",
    ];
    let answer = format!("{HEADER}\n{}\n", rows.join("\n"));
    let words = words_of(&answer).unwrap();
    let texts: Vec<&str> = words.iter().map(|word| word.text).collect();
    assert_eq!(texts, ["Subscribe", "~", ""]);
    assert_eq!(words[0].confidence, 96.0625);
    let right = TextBox::upright(120.0, 147.0, 596.0, 267.0);
    assert_eq!(words[0].scaled([2.0, 3.0]), right);
}

#[test]
fn what_is_no_table_is_refused_with_what_was_found() {
    let answer = format!("{HEADER}\n5\t1\t1\t1\t1\t1\tsixty\t49\t238\t40\t96\tword\n");
    for (answer, found) in [("", "\"\""), ("hello", "\"hello\""), (&answer, "sixty")] {
        let failure = words_of(answer).unwrap_err().to_string();
        assert!(failure.contains(found), "{failure}");
    }
}

#[test]
fn a_missing_program_is_a_sentence_about_installing_it() {
    let settings = TesseractSettings {
        program: PathBuf::from("kinora-no-such-program"),
        ..TesseractSettings::default()
    };
    let failure = Tesseract::find(settings).unwrap_err().to_string();
    assert!(
        failure.contains("apt-get install tesseract-ocr"),
        "{failure}"
    );
}

#[test]
fn a_program_that_hangs_is_ended() {
    let mut hangs = standing_in("tesseract_that_hangs.sh", 20.0);
    hangs.settings.time_limit_s = 0.2;
    let failure = hangs.boxes(&picture());
    let failure = failure.unwrap_err().to_string();
    assert!(failure.contains("was ended"), "{failure}");
}

#[test]
fn a_program_that_fails_says_why() {
    let failure = standing_in("tesseract_that_fails.sh", 20.0).boxes(&picture());
    let failure = failure.unwrap_err().to_string();
    assert!(failure.contains("xyz.traineddata"), "{failure}");
}

#[test]
fn a_program_that_babbles_is_refused() {
    let failure = standing_in("tesseract_that_babbles.sh", 20.0).boxes(&picture());
    let failure = failure.unwrap_err().to_string();
    assert!(failure.contains("expected a table"), "{failure}");
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for time_limit_s in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let settings = TesseractSettings {
            time_limit_s,
            ..TesseractSettings::default()
        };
        assert!(Tesseract::find(settings).is_err());
    }
}

#[test]
fn a_picture_is_given_by_its_smallest_colours() {
    let tesseract = standing_in("tesseract_that_fails.sh", 20.0);
    let shown = tesseract.shown(&Rgb8Image::new(2, 1, vec![9, 4, 5, 1, 200, 7]).unwrap());
    assert_eq!(shown, b"P5\n2 1\n255\n\x04\x01");
}

#[test]
fn only_what_decides_the_result_names_it() {
    let judge = standing_in("tesseract_that_fails.sh", 20.0);
    let elsewhere = standing_in("tesseract_that_hangs.sh", 10.0);
    assert_eq!(judge.params(), elsewhere.params());
    let mut other = judge.clone();
    other.settings.min_confidence = 61.0;
    assert_ne!(judge.params(), other.params());
    assert_eq!(TextJudge::Tesseract(judge).version(), "1+0.0.1");
}

/// The real program on a picture whose words stand at known places.
#[test]
fn words_are_found_where_they_stand() {
    let picture = read_image(&fixture("words.png")).unwrap();
    let text = std::fs::read_to_string(fixture("words.json")).unwrap();
    let truth: std::collections::BTreeMap<String, [f32; 4]> = serde_json::from_str(&text).unwrap();
    let truth: Vec<TextBox> = truth
        .values()
        .map(|&[left, top, right, bottom]| TextBox::upright(left, top, right, bottom))
        .collect();
    let expected = covered_share(&truth, picture.width(), picture.height());

    let judge = TextJudge::Tesseract(Tesseract::find(TesseractSettings::default()).unwrap());
    let found = judge.boxes(&picture).unwrap();
    assert_eq!(found.len(), truth.len(), "{found:?}");
    let share = covered_share(&found, picture.width(), picture.height());
    assert!(
        (share - expected).abs() < 0.1 * expected,
        "{share} for {expected}"
    );

    // The largest share of the three frames is kept, wherever it stands.
    let plain = Rgb8Image::from_fn(640, 360, |x, _| [(x / 4) as u8; 3]);
    assert_eq!(
        judge
            .area(&[plain.clone(), plain.clone(), plain.clone()])
            .unwrap(),
        0.0
    );
    let last = judge.area(&[plain.clone(), plain, picture]).unwrap();
    assert_eq!(last, share as f32);
}
