//! Models that cannot be used, and what is said of them.

use crate::place::{MODEL, Place, copy_folder, generate_words, names};
use std::fs;
use std::path::Path;

const UNET: &str = "model/unet/diffusion_pytorch_model.fp16.safetensors";

/// What is said of `model` after `spoil` has been at it.
fn refused(model: &str, spoil: impl FnOnce(&Place)) -> String {
    let place = Place::with_still();
    copy_folder(Path::new(MODEL), &place.path("model"));
    spoil(&place);
    let before = place.names();
    let words = generate_words("still.png", "a.mp4");
    let words = words
        .iter()
        .map(|word| if *word == MODEL { model } else { word });
    let ended = place.kinora(words);
    let said = ended.refused().lines().last().unwrap().to_owned();
    assert_eq!(place.names(), before, "{said}");
    said
}

#[test]
fn a_model_that_is_not_there() {
    let said = refused("nowhere", |_| ());
    assert!(
        said.contains("nowhere: no such file or folder") && said.contains("owner/name"),
        "{said}"
    );
}

#[test]
fn a_hub_id_without_a_network_says_what_to_fetch_by_hand() {
    let place = Place::with_still();
    let words = generate_words("still.png", "a.mp4");
    let words = words.iter().map(|word| {
        if *word == MODEL {
            "somebody/something"
        } else {
            word
        }
    });
    let ended = place.kinora(words);
    let said = ended.refused();
    assert!(
        said.contains("http://127.0.0.1:9/somebody/something"),
        "{said}"
    );
    assert!(said.contains("unet/diffusion_pytorch_model"), "{said}");
    assert!(said.contains("--model something"), "{said}");
}

#[test]
fn weights_cut_short_name_the_file_and_the_remedy() {
    let said = refused("model", |place| {
        let whole = fs::read(place.path(UNET)).unwrap();
        fs::write(place.path(UNET), &whole[..whole.len() - 1000]).unwrap();
    });
    assert!(said.contains(UNET) && said.contains("cut short"), "{said}");
    assert!(said.contains("download"), "{said}");
    let said = refused("model", |place| fs::write(place.path(UNET), "").unwrap());
    assert!(said.contains(UNET), "{said}");
}

#[test]
fn a_folder_that_lacks_something_says_what() {
    let said = refused("model", |place| {
        fs::remove_dir_all(place.path("model/image_encoder")).unwrap();
    });
    assert!(said.contains("`image_encoder` is missing"), "{said}");
    let said = refused("model", |place| fs::remove_file(place.path(UNET)).unwrap());
    assert!(
        said.contains("model/unet: expected weights named"),
        "{said}"
    );
    let said = refused("model/unet", |_| ());
    assert!(said.contains("give the folder above it"), "{said}");
    let said = refused(UNET, |_| ());
    assert!(said.contains("give that folder"), "{said}");
    let said = refused("still.png", |_| ());
    assert!(
        said.contains("still.png") && said.contains("no safetensors file"),
        "{said}"
    );
    let said = refused("model", |place| {
        fs::write(place.path("model/scheduler/scheduler_config.json"), "{").unwrap();
    });
    assert!(said.contains("scheduler_config.json"), "{said}");
    let said = refused("model", |place| {
        fs::write(place.path("model/vae/config.json"), "[]").unwrap()
    });
    assert!(said.contains("vae/config.json"), "{said}");
}

#[test]
fn inspect_tells_what_things_are() {
    let place = Place::with_still();
    copy_folder(Path::new(MODEL), &place.path("model"));
    assert_eq!(names(&place.path("model")).len(), 6);
    fs::write(place.path("junk.bin"), [7; 64]).unwrap();
    for (path, expected) in [
        ("model", "model folder in the layout of diffusers"),
        ("model", "1,297,168 parameters"),
        ("model/unet", "less than a whole model: unet"),
        (UNET, "weights of one network: unet"),
    ] {
        let ended = place.kinora(["inspect", path]);
        assert!(ended.done().contains(expected), "{path}: {}", ended.out);
        let ended = place.kinora(["inspect", path, "--json"]);
        ended.done();
        assert!(ended.events()[0].is_object());
    }
    for (path, expected) in [
        ("junk.bin", "junk.bin"),
        ("still.png", "kinora did not write it"),
        ("nowhere", "nowhere: No such file"),
        (".", "`model_index.json`"),
        ("model/unet/config.json", "no safetensors file"),
    ] {
        let ended = place.kinora(["inspect", path]);
        assert!(ended.refused().contains(expected), "{path}: {}", ended.err);
        assert_eq!(ended.out, "");
    }
}
