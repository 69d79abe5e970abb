//! The private key that proves who we are: PKCS #8 in PEM, open (RFC 5958) or encrypted (RFC 8018).

use std::{fmt::Display, num::NonZeroU32, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use cbc::{
    Decryptor,
    cipher::{BlockModeDecrypt, KeyIvInit, block_padding::Pkcs7},
};
use ring::{digest, pbkdf2, signature::KeyPair, signature::RsaKeyPair};
use rustls::pki_types::alg_id;
use zeroize::Zeroizing;

use crate::{
    secret::{Secret, SecretSource},
    tls::der::{BIT_STRING, INTEGER, OBJECT, OCTETS, Reader, SEQUENCE, encode},
};

/// More rounds than anybody takes: with so many it would seem to hang.
const MAX_ROUNDS: u32 = 10_000_000;
/// How a key is written anew, so that it can be read here.
const CONVERT: &str = "openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD.pem -out NEW.p8";

/// Contents of object identifiers: PBES2 and PBKDF2 (RFC 8018 appendix A), the functions of RFC 8018 appendix B.1 (with
/// these last bytes), and the ciphers of appendix B.2 and RFC 3565.
const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c];
const HMAC: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02];
const DES_EDE3_CBC: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x03, 0x07];
const AES_128_CBC: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x02];
const AES_192_CBC: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x16];
const AES_256_CBC: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a];

/// The half of a key that everybody may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// `SHA256:...`, as `DESC USER` shows it as `RSA_PUBLIC_KEY_FP`.
    pub fingerprint: String,
    /// As `ALTER USER ... SET RSA_PUBLIC_KEY = '...'` takes it.
    pub base64: String,
}

impl PublicKey {
    pub(super) fn of(key: &RsaKeyPair) -> Self {
        // SubjectPublicKeyInfo (RFC 5280 section 4.1), with the RSAPublicKey of RFC 8017 appendix A.1.1 in it.
        let bits = encode(BIT_STRING, &[&[0], key.public_key().as_ref()]);
        let info = encode(SEQUENCE, &[&encode(SEQUENCE, &[alg_id::RSA_ENCRYPTION.as_ref()]), &bits]);
        let hash = BASE64_STANDARD.encode(digest::digest(&digest::SHA256, &info));
        Self { fingerprint: format!("SHA256:{hash}"), base64: BASE64_STANDARD.encode(info) }
    }
}

/// Reads the key in `file`. The error names the file and what to do.
pub(super) fn read(file: &Path, password: Option<&SecretSource>) -> Result<RsaKeyPair, String> {
    let pem = SecretSource::File(file.to_owned()).read()?;
    let password = password.map(SecretSource::read).transpose()?;
    parse(&pem, password.as_ref()).map_err(|problem| format!("the private key in {} {problem}", file.display()))
}

fn parse(pem: &Secret, password: Option<&Secret>) -> Result<RsaKeyPair, String> {
    if let Some(der) = section(pem, "ENCRYPTED PRIVATE KEY")? {
        let password = password.ok_or("is encrypted: name the file that has its password")?;
        let decrypted = decrypt(&der, password)?;
        // A wrong password gives noise, of which each 256th looks whole.
        return pair(&decrypted).map_err(|problem| format!("{problem}; or the password is another one"));
    }
    match section(pem, "PRIVATE KEY")? {
        Some(der) => pair(&der),
        None if pem.expose().contains("BEGIN RSA PRIVATE KEY") => {
            Err(format!("is PKCS #1, and PKCS #8 is what is read: {CONVERT}"))
        }
        None => Err(format!(
            "is not there: it must have a line BEGIN PRIVATE KEY or BEGIN ENCRYPTED PRIVATE KEY: {CONVERT}"
        )),
    }
}

fn pair(der: &[u8]) -> Result<RsaKeyPair, String> {
    RsaKeyPair::from_pkcs8(der).map_err(|error| format!("is no RSA key of 2048 to 4096 bits: {error}"))
}

/// What is in the section of `pem` with this `label` (RFC 7468).
fn section(pem: &Secret, label: &str) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let Some((_, rest)) = pem.expose().split_once(&begin) else { return Ok(None) };
    let (text, _) = rest.split_once(&end).ok_or("is cut off: it has no END line")?;
    let mut dense = Zeroizing::new(String::with_capacity(text.len()));
    dense.extend(text.split_ascii_whitespace());
    let der = BASE64_STANDARD.decode(dense.as_bytes());
    der.map(|der| Some(Zeroizing::new(der))).map_err(|_| "is damaged: it is not base64".into())
}

/// Opens an EncryptedPrivateKeyInfo (RFC 5958 section 3).
fn decrypt(der: &[u8], password: &Secret) -> Result<Zeroizing<Vec<u8>>, String> {
    let Encrypted { prf, salt, rounds, cipher, iv, data } =
        Encrypted::read(der).ok_or_else(|| unknown("PBES2 with PBKDF2"))?;
    let mut key = Zeroizing::new([0; 32]);
    let key = &mut key[..cipher.key_bytes()];
    pbkdf2::derive(prf.ok_or_else(|| unknown("HMAC"))?, rounds, salt, password.expose().as_bytes(), key);
    let mut plain = Zeroizing::new(data.to_vec());
    let length = cipher.decrypt(key, iv, &mut plain).ok_or("is not opened by its password: give the right one")?;
    plain.truncate(length);
    Ok(plain)
}

fn unknown(what: impl Display) -> String {
    format!("is encrypted in a way that is not known here (no {what} that is): {CONVERT}")
}

/// What an EncryptedPrivateKeyInfo says.
struct Encrypted<'d> {
    /// `None`: one that is not known.
    prf: Option<pbkdf2::Algorithm>,
    salt: &'d [u8],
    rounds: NonZeroU32,
    cipher: Cipher,
    iv: &'d [u8],
    data: &'d [u8],
}

impl<'d> Encrypted<'d> {
    fn read(der: &'d [u8]) -> Option<Self> {
        let mut whole = Reader::new(Reader::new(der).take(SEQUENCE)?);
        let mut scheme = Reader::new(whole.take(SEQUENCE)?);
        let data = whole.take(OCTETS)?;
        if scheme.take(OBJECT)? != PBES2 {
            return None;
        }
        let mut parts = Reader::new(scheme.take(SEQUENCE)?);
        let (mut derivation, mut encryption) = (Reader::new(parts.take(SEQUENCE)?), Reader::new(parts.take(SEQUENCE)?));
        let cipher = Cipher::of(encryption.take(OBJECT)?)?;
        let iv = encryption.take(OCTETS)?;
        if derivation.take(OBJECT)? != PBKDF2 {
            return None;
        }
        let mut how = Reader::new(derivation.take(SEQUENCE)?);
        let salt = how.take(OCTETS)?;
        let rounds =
            how.take(INTEGER)?.iter().try_fold(0_u32, |sum, byte| sum.checked_mul(256)?.checked_add((*byte).into()));
        let rounds = NonZeroU32::new(rounds.filter(|rounds| *rounds <= MAX_ROUNDS)?)?;
        // The length of the key may be said: the cipher's is what it is.
        let _ = how.take(INTEGER);
        let prf = match how.take(SEQUENCE) {
            None => Some(pbkdf2::PBKDF2_HMAC_SHA1),
            Some(prf) => hmac(Reader::new(prf).take(OBJECT)?),
        };
        Some(Self { prf, salt, rounds, cipher, iv, data })
    }
}

fn hmac(object: &[u8]) -> Option<pbkdf2::Algorithm> {
    match object.strip_prefix(HMAC)? {
        [7] => Some(pbkdf2::PBKDF2_HMAC_SHA1),
        [9] => Some(pbkdf2::PBKDF2_HMAC_SHA256),
        [10] => Some(pbkdf2::PBKDF2_HMAC_SHA384),
        [11] => Some(pbkdf2::PBKDF2_HMAC_SHA512),
        _ => None,
    }
}

#[derive(Clone, Copy)]
enum Cipher {
    Des3,
    Aes128,
    Aes192,
    Aes256,
}

impl Cipher {
    fn of(object: &[u8]) -> Option<Self> {
        match object {
            DES_EDE3_CBC => Some(Self::Des3),
            AES_128_CBC => Some(Self::Aes128),
            AES_192_CBC => Some(Self::Aes192),
            AES_256_CBC => Some(Self::Aes256),
            _ => None,
        }
    }

    fn key_bytes(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Des3 | Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }

    /// Decrypts `data` in place, and says how much of it is left without its padding.
    fn decrypt(self, key: &[u8], iv: &[u8], data: &mut [u8]) -> Option<usize> {
        fn open<C: KeyIvInit + BlockModeDecrypt>(key: &[u8], iv: &[u8], data: &mut [u8]) -> Option<usize> {
            let plain = C::new_from_slices(key, iv).ok()?.decrypt_padded::<Pkcs7>(data).ok()?;
            Some(plain.len())
        }
        match self {
            Self::Des3 => open::<Decryptor<des::TdesEde3>>(key, iv, data),
            Self::Aes128 => open::<Decryptor<aes::Aes128>>(key, iv, data),
            Self::Aes192 => open::<Decryptor<aes::Aes192>>(key, iv, data),
            Self::Aes256 => open::<Decryptor<aes::Aes256>>(key, iv, data),
        }
    }
}

#[cfg(test)]
mod tests;
