//! Which of a model's files are needed.

use crate::Result;
use crate::weights::part::{Variant, shard_names};
use crate::weights::stranger::{PICKLE, has_pickle_name};
use std::path::{Path, PathBuf};

/// What is wanted of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A whole model that makes videos, in this precision or the highest there is.
    Pipeline(Option<Variant>),
    /// One network that judges or captions: CLIP or CoCa.
    Judge,
}

/// The files to have before a model can be opened, as paths in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Files that are needed as they are.
    pub(super) files: Vec<String>,
    /// Files that name further ones beside them.
    pub(super) indexes: Vec<String>,
    /// The one file that is the whole model, where there is no folder.
    pub(super) single_file: Option<String>,
}

/// The networks of a model: their folders, and how their weights are named.
const NETWORKS: [(&str, &str); 3] = [
    ("image_encoder", "model"),
    ("unet", "diffusion_pytorch_model"),
    ("vae", "diffusion_pytorch_model"),
];

/// Small files that a model may have beside its networks.
const SIDE_FILES: [&str; 2] = [
    "feature_extractor/preprocessor_config.json",
    "scheduler/scheduler_config.json",
];

impl Plan {
    /// What is needed of a model that has the files `names`.
    pub(super) fn of(names: &[String], wanted: Wanted) -> std::result::Result<Plan, String> {
        let variant = match wanted {
            Wanted::Pipeline(variant) => variant,
            Wanted::Judge => return judge(names),
        };
        let has = |name: &str| names.iter().any(|found| found == name);
        if !has("model_index.json") {
            return single_file(names);
        }
        let mut plan = Plan::default();
        plan.files.push("model_index.json".to_owned());
        let side_files = SIDE_FILES.iter().filter(|name| has(name));
        plan.files.extend(side_files.map(|name| (*name).to_owned()));
        for (folder, stem) in NETWORKS {
            plan.files.push(format!("{folder}/config.json"));
            let variants = variant.map_or(Variant::ALL.to_vec(), |variant| vec![variant]);
            let names = variants
                .iter()
                .map(|v| v.names(stem).map(|name| format!("{folder}/{name}")));
            let found = names.clone().find(|[file, index]| has(file) || has(index));
            match found {
                Some([file, _]) if has(&file) => plan.files.push(file),
                Some([_, index]) => plan.indexes.push(index),
                None => {
                    let looked_for: Vec<String> = names.flatten().collect();
                    return Err(format!(
                        "the model has none of {}; ask for another variant, or for none",
                        looked_for.join(", ")
                    ));
                }
            }
        }
        Ok(plan)
    }

    /// Every file but the indexes, once those are in `snapshot`: they name shards.
    pub(super) fn files_and_shards(&self, snapshot: &Path) -> Result<Vec<String>> {
        let mut files = self.files.clone();
        for index in &self.indexes {
            let folder = index.rsplit_once('/').map_or("", |(folder, _)| folder);
            let shards = shard_names(&snapshot.join(index))?;
            files.extend(shards.iter().map(|shard| match folder {
                "" => shard.clone(),
                folder => format!("{folder}/{shard}"),
            }));
        }
        Ok(files)
    }

    /// What to open: the one file, or the folder.
    pub(super) fn path(&self, snapshot: PathBuf) -> PathBuf {
        match &self.single_file {
            Some(file) => snapshot.join(file),
            None => snapshot,
        }
    }
}

/// The weights open_clip publishes, and their settings.
const OPEN_CLIP: [&str; 2] = ["open_clip_config.json", "open_clip_model.safetensors"];

/// The files of one network: those of transformers, or of open_clip, or the only weights there are.
fn judge(names: &[String]) -> std::result::Result<Plan, String> {
    let has = |name: &str| names.iter().any(|found| found == name);
    let mut plan = Plan::default();
    let published = Variant::ALL.map(|variant| variant.names("model"));
    let found = published
        .iter()
        .find(|[file, index]| has(file) || has(index));
    if let Some([file, index]) = found.filter(|_| has("config.json")) {
        let side = ["config.json", "preprocessor_config.json"];
        let side = side.iter().filter(|name| has(name));
        plan.files.extend(side.map(|name| (*name).to_owned()));
        match has(file) {
            true => plan.files.push(file.clone()),
            false => plan.indexes.push(index.clone()),
        }
        return Ok(plan);
    }
    if OPEN_CLIP.iter().all(|name| has(name)) {
        plan.files.extend(OPEN_CLIP.map(str::to_owned));
        return Ok(plan);
    }
    let pickle = names.iter().find(|name| has_pickle_name(Path::new(name)));
    single_file(names).map_err(|_| {
        let found = match pickle {
            Some(pickle) => format!("only the pickle {pickle}; {PICKLE}"),
            None => "none of them".to_owned(),
        };
        format!(
            "expected config.json with model.safetensors, or {}, or one safetensors file; found {found}",
            OPEN_CLIP.join(" with ")
        )
    })
}

fn single_file(names: &[String]) -> std::result::Result<Plan, String> {
    let is_weights = |name: &&String| name.ends_with(".safetensors") && !name.contains('/');
    let candidates: Vec<&String> = names.iter().filter(is_weights).collect();
    match candidates[..] {
        [file] => Ok(Plan {
            files: vec![file.clone()],
            single_file: Some(file.clone()),
            ..Plan::default()
        }),
        [] => Err(
            "the model has neither a model_index.json nor a safetensors file; only image-to-\
                   video models of the family of Stable Video Diffusion can be used"
                .to_owned(),
        ),
        _ => Err(format!(
            "the model has no model_index.json and several weights files; download one of them and \
             give it as --model: {}",
            candidates
                .iter()
                .map(|name| name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        )),
    }
}

/// The files of the published models, for someone who has to fetch them without being able to ask.
pub(super) fn published(wanted: Wanted) -> impl Iterator<Item = String> {
    let files: Vec<String> = match wanted {
        Wanted::Judge => [
            "config.json",
            "preprocessor_config.json",
            "model.safetensors",
        ]
        .map(str::to_owned)
        .into(),
        Wanted::Pipeline(variant) => {
            let weights = variant.unwrap_or(Variant::Fp32);
            let side = std::iter::once("model_index.json").chain(SIDE_FILES);
            let networks = NETWORKS.into_iter().flat_map(|(folder, stem)| {
                let [file, _] = weights.names(stem);
                [format!("{folder}/config.json"), format!("{folder}/{file}")]
            });
            side.map(str::to_owned).chain(networks).collect()
        }
    };
    files.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// What the published model has, as far as it matters.
    fn published_names() -> Vec<String> {
        let mut all: Vec<String> = published(Wanted::Pipeline(None))
            .chain(published(Wanted::Pipeline(Some(Variant::Fp16))))
            .collect();
        all.extend(names(&[
            "README.md",
            "svd_xt.safetensors",
            "svd_xt_image_decoder.safetensors",
        ]));
        all
    }

    #[test]
    fn one_precision_of_the_folder_is_enough() {
        let plan = Plan::of(&published_names(), Wanted::Pipeline(None)).unwrap();
        assert!(
            plan.files
                .contains(&"unet/diffusion_pytorch_model.safetensors".to_owned())
        );
        assert!(
            !plan
                .files
                .iter()
                .any(|name| name.contains("fp16") || name.contains("svd_xt"))
        );
        assert_eq!(plan.files.len(), 9);
        let plan = Plan::of(&published_names(), Wanted::Pipeline(Some(Variant::Fp16))).unwrap();
        assert!(
            plan.files
                .contains(&"image_encoder/model.fp16.safetensors".to_owned())
        );
        assert_eq!(plan.files.len(), 9);
        let error =
            Plan::of(&published_names(), Wanted::Pipeline(Some(Variant::Bf16))).unwrap_err();
        assert!(
            error.contains("image_encoder/model.bf16.safetensors"),
            "{error}"
        );
    }

    #[test]
    fn an_index_stands_for_its_shards() {
        let mut all = published_names();
        all.retain(|name| !name.starts_with("unet/diffusion"));
        all.extend(names(&[
            "unet/diffusion_pytorch_model.safetensors.index.json",
        ]));
        let plan = Plan::of(&all, Wanted::Pipeline(None)).unwrap();
        assert_eq!(
            plan.indexes,
            ["unet/diffusion_pytorch_model.safetensors.index.json"]
        );
    }

    #[test]
    fn a_single_file_is_a_model_if_there_is_one() {
        let plan = Plan::of(
            &names(&["README.md", "svd.safetensors"]),
            Wanted::Pipeline(None),
        )
        .unwrap();
        assert_eq!(plan.single_file.as_deref(), Some("svd.safetensors"));
        assert_eq!(plan.files, ["svd.safetensors"]);
        let two = names(&["svd.safetensors", "svd_image_decoder.safetensors"]);
        assert!(
            Plan::of(&two, Wanted::Pipeline(None))
                .unwrap_err()
                .contains("several weights files")
        );
        assert!(
            Plan::of(&names(&["README.md"]), Wanted::Pipeline(None))
                .unwrap_err()
                .contains("neither")
        );
    }

    #[test]
    fn a_judge_is_the_network_of_transformers_or_else_of_open_clip() {
        let of = |all: &[&str]| Plan::of(&names(all), Wanted::Judge);
        let both = [
            "README.md",
            "config.json",
            "model.safetensors",
            "open_clip_config.json",
            "open_clip_model.safetensors",
            "preprocessor_config.json",
            "pytorch_model.bin",
        ];
        let side = ["config.json", "preprocessor_config.json"];
        assert_eq!(
            of(&both).unwrap().files,
            [side[0], side[1], "model.safetensors"]
        );
        let sharded = ["config.json", "model.safetensors.index.json"];
        assert_eq!(of(&sharded).unwrap().indexes, [sharded[1]]);
        let open_clip = of(&[both[1], both[3], both[4]]).unwrap();
        assert_eq!(open_clip.files, [both[3], both[4]]);
        assert_eq!(open_clip.single_file, None);
        assert_eq!(
            of(&["a.safetensors"]).unwrap().single_file.as_deref(),
            Some("a.safetensors")
        );
        let error = of(&["open_clip_config.json", "open_clip_pytorch_model.bin"]).unwrap_err();
        assert!(
            error.contains("only the pickle open_clip_pytorch_model.bin"),
            "{error}"
        );
    }
}
