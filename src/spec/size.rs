//! Amounts of memory, as people write them.

/// Units of 1024, as systemd and everybody's memory has them.
const UNITS: [(char, u32); 4] = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];

/// Why a text is no amount of memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Not a number with one of the units.
    #[error("`{0}` is not an amount of memory")]
    Form(String),
    /// More than 64 bits of it.
    #[error("`{0}` is more memory than there can be")]
    TooLarge(String),
}

impl SizeError {
    /// What was probably meant: `512M` for `512mb`, `512 MiB` and the like.
    pub fn suggestion(&self) -> Option<String> {
        let Self::Form(text) = self else { return None };
        let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_uppercase();
        let bare = compact.strip_suffix("IB").or(compact.strip_suffix('B')).unwrap_or(&compact);
        size(bare).is_ok().then(|| bare.to_owned())
    }
}

/// Bytes: `1073741824`, `512M`, `1.5G`; units K, M, G and T of 1024.
pub fn size(text: &str) -> Result<u64, SizeError> {
    let form = || SizeError::Form(text.to_owned());
    let large = || SizeError::TooLarge(text.to_owned());
    let (number, shift) =
        match UNITS.iter().find_map(|(unit, shift)| Some((text.strip_suffix(*unit)?, *shift))) {
            Some(found) => found,
            None => (text, 0),
        };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || (number.contains('.') && (!digits(part) || part.len() > 3 || shift == 0)) {
        return Err(form());
    }
    let whole: u64 = whole.parse().map_err(|_| large())?;
    let whole = whole.checked_mul(1 << shift).ok_or_else(large)?;
    let part = match part.len() {
        0 => 0,
        // Three digits at most of a unit of at most 2^40: far from the end of 64 bits.
        places => (part.parse::<u64>().map_err(|_| form())? << shift) / 10_u64.pow(places as u32),
    };
    whole.checked_add(part).ok_or_else(large)
}

/// Bytes in the largest unit that says them exactly: `512M`.
pub fn show_size(bytes: u64) -> String {
    match UNITS.iter().rev().find(|(_, shift)| bytes != 0 && bytes.is_multiple_of(1 << shift)) {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes, shown) in [
            ("0", 0, "0"),
            ("512M", 512 << 20, "512M"),
            ("1.5G", 1536 << 20, "1536M"),
            ("1023", 1023, "1023"),
            ("2048K", 2 << 20, "2M"),
            ("1T", 1 << 40, "1T"),
        ] {
            assert_eq!(size(text), Ok(bytes));
            assert_eq!(show_size(bytes), shown);
        }
        for text in ["", "M", "-1", "1,5G", "512m", "512MB", "1.5", "0x10", "1e3", "99999999999T", " 1"] {
            assert!(size(text).is_err(), "{text:?}");
        }
        assert_eq!(size("512 MiB").expect_err("no").suggestion(), Some("512M".into()));
        assert_eq!(size("512m").expect_err("no").suggestion(), Some("512M".into()));
        assert_eq!(size("much").expect_err("no").suggestion(), None);
    }
}
