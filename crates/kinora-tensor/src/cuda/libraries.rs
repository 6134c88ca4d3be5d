//! Where NVIDIA's libraries are: none is needed to build or to start, and one that is missing is a
//! sentence that says which file was looked for, and where.

use libloading::Library;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A library by what it is for, with the names its file may have, the newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// What a reader would call it.
    pub title: &'static str,
    pub names: &'static [&'static str],
    /// Whether it comes with the driver, so that only the system's own folders can hold it.
    pub of_driver: bool,
}

pub(super) const DRIVER: Wanted = Wanted {
    title: "NVIDIA's driver",
    names: &["libcuda.so.1"],
    of_driver: true,
};
pub(super) const NVRTC: Wanted = Wanted {
    title: "the run-time compiler NVRTC",
    names: &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"],
    of_driver: false,
};

pub(super) const BLAS: Wanted = Wanted {
    title: "NVIDIA's library of products, cuBLASLt",
    names: &["libcublasLt.so.13", "libcublasLt.so.12"],
    of_driver: false,
};
pub(super) const CONVOLUTIONS: Wanted = Wanted {
    title: "NVIDIA's library of convolutions, cuDNN",
    names: &["libcudnn.so.9"],
    of_driver: false,
};

/// What the environment says about where libraries may be.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    /// Folders of a CUDA installation: CUDA_HOME, CUDA_PATH, /usr/local/cuda.
    pub toolkits: Vec<PathBuf>,
    /// Roots of Python environments: VIRTUAL_ENV, CONDA_PREFIX.
    pub environments: Vec<PathBuf>,
}

impl Surroundings {
    pub(super) fn of_this_process() -> Self {
        let folders = |names: &[&str]| -> Vec<PathBuf> {
            let values = names.iter().filter_map(std::env::var_os);
            let set = values.filter(|value: &OsString| !value.is_empty());
            set.map(PathBuf::from).collect()
        };
        let mut toolkits = folders(&["CUDA_HOME", "CUDA_PATH"]);
        toolkits.push(PathBuf::from("/usr/local/cuda"));
        Surroundings {
            toolkits,
            environments: folders(&["VIRTUAL_ENV", "CONDA_PREFIX"]),
        }
    }

    /// The folders that may hold a library, beside those the system searches by itself.
    fn folders(&self, wanted: Wanted) -> Vec<PathBuf> {
        if wanted.of_driver {
            // Where the driver lies under Windows' Linux.
            return vec![PathBuf::from("/usr/lib/wsl/lib")];
        }
        let toolkits = self.toolkits.iter();
        let mut found: Vec<PathBuf> = toolkits
            .flat_map(|root| [root.join("lib64"), root.join("lib")])
            .collect();
        for root in &self.environments {
            for python in entries(&root.join("lib"), "python3") {
                for part in entries(&python.join("site-packages/nvidia"), "") {
                    found.push(part.join("lib"));
                }
            }
        }
        found
    }
}

/// The entries of a folder whose names begin so, in order.
fn entries(folder: &Path, beginning: &str) -> Vec<PathBuf> {
    let Ok(listing) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let named = listing.flatten().filter(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with(beginning)
    });
    let mut found: Vec<PathBuf> = named.map(|entry| entry.path()).collect();
    found.sort();
    found
}

/// Loads the library from the first place that has it.
///
/// # Errors
/// A sentence: a file that is there and is no library, or every place that was looked at.
pub(super) fn load(wanted: Wanted, surroundings: &Surroundings) -> Result<Library, String> {
    let folders = surroundings.folders(wanted);
    let mut broken = None;
    for name in wanted.names {
        let here = folders.iter().map(|folder| folder.join(name));
        let by_system = std::iter::once(PathBuf::from(name));
        // A folder the user names goes before the system's own.
        for path in here.filter(|path| path.exists()).chain(by_system) {
            // SAFETY: NVIDIA's libraries set themselves up when loaded and expect nothing of us.
            #[allow(unsafe_code)]
            match unsafe { Library::new(&path) } {
                Ok(library) => return Ok(library),
                Err(error) => {
                    let why = reason(&error);
                    if path.exists() || !why.contains("No such file") {
                        broken = broken.or(Some((path, why)));
                    }
                }
            }
        }
    }
    Err(match broken {
        Some((path, why)) => format!(
            "{} cannot be used: {} was found, and loading it failed ({why}); reinstall it",
            wanted.title,
            path.display()
        ),
        None => absent(wanted, &folders),
    })
}

/// What the system's loader says.
fn reason(error: &libloading::Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), ToString::to_string)
}

fn absent(wanted: Wanted, folders: &[PathBuf]) -> String {
    let folders: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
    let remedy = if wanted.of_driver {
        "install the driver that fits the card"
    } else {
        "install the CUDA toolkit and set CUDA_HOME, or install NVIDIA's wheels in a Python \
         environment and activate it"
    };
    format!(
        "{} was not found: looked for {} in the system's library folders, {}; {remedy}",
        wanted.title,
        wanted.names.join(", "),
        folders.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("kinora-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    const MADE_UP: Wanted = Wanted {
        title: "the made-up library",
        names: &["libkinora-made-up.so.2", "libkinora-made-up.so.1"],
        of_driver: false,
    };

    #[test]
    fn a_missing_library_is_a_sentence_with_every_place() {
        let root = folder("no-library");
        let packages = root.join("venv/lib/python3.11/site-packages/nvidia/cu13/lib");
        std::fs::create_dir_all(&packages).unwrap();
        let surroundings = Surroundings {
            toolkits: vec![root.join("cuda")],
            environments: vec![root.join("venv")],
        };
        let error = load(MADE_UP, &surroundings).unwrap_err();
        for part in [
            "the made-up library was not found",
            "libkinora-made-up.so.2, libkinora-made-up.so.1",
            root.join("cuda/lib64").to_str().unwrap(),
            packages.to_str().unwrap(),
            "CUDA_HOME",
        ] {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_file_that_is_no_library_is_named() {
        let root = folder("wrong-library");
        std::fs::create_dir_all(root.join("lib64")).unwrap();
        let file = root.join("lib64/libkinora-made-up.so.1");
        std::fs::write(&file, "not a library\n").unwrap();
        let surroundings = Surroundings {
            toolkits: vec![root.clone()],
            environments: vec![],
        };
        let error = load(MADE_UP, &surroundings).unwrap_err();
        assert!(error.contains(file.to_str().unwrap()), "{error}");
        assert!(error.contains("loading it failed ("), "{error}");
        assert!(!error.contains("was not found"), "{error}");
        std::fs::remove_dir_all(root).unwrap();
    }
}
