//! Codes of the contract and of the domain, which have the same names.

/// Two functions between them: a number of the contract to the domain's code, where it is one that means something, and back.
macro_rules! same {
    ($vis:vis $from:ident, $to:ident, $name:ident { $($variant:ident),+ $(,)? }) => {
        $vis fn $from(number: i32) -> Option<$name> {
            match pb::$name::try_from(number).ok()? {
                pb::$name::Unspecified => None,
                $(pb::$name::$variant => Some($name::$variant),)+
            }
        }

        $vis const fn $to(code: $name) -> pb::$name {
            match code {
                $($name::$variant => pb::$name::$variant,)+
            }
        }
    };
}
pub(super) use same;
