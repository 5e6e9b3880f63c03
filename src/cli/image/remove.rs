//! `wharf image remove`.

use std::fmt::Write as _;
use std::io;

use crate::cli::output::{Exit, Failure, coloured, complain, error_text, print};
use crate::image::Store;
use crate::spec::Reference;

pub(super) fn run(store: &Store, images: &[Reference]) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    let mut text = String::new();
    for image in images {
        match store.remove(image) {
            Ok(removed) => {
                for reference in &removed.references {
                    let _ = writeln!(text, "removed {reference}");
                }
                if let Some(digest) = &removed.image {
                    let _ = writeln!(text, "removed {digest} and {} layers", removed.layers);
                }
                if let Some(why) = &removed.kept {
                    complain(&format!("note: {why}\n"));
                }
            }
            Err(error) => {
                complain(&error_text(&error, coloured(&io::stderr())));
                exit = Exit::Failed;
            }
        }
    }
    print(&text).map_err(|failure| failure.unread(exit))?;
    Ok(exit)
}
