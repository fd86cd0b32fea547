//! What can go wrong when objects are sealed and opened.
//!
//! [`SealError`] is for callers, [`Corruption`] is the closed list of rules that the bytes of an object can
//! break. No message repeats a secret: texts of identities are named by their line only.

use lifeboat_schema::Digest;

/// Says why an object could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// A text is not a recipient.
    #[error("{text:?} is not an age recipient: {why}")]
    BadRecipient {
        /// The text, cut to 80 characters.
        text: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// A recipient stands in the list twice.
    #[error("recipient {text} is listed twice")]
    DuplicateRecipient {
        /// The recipient.
        text: String,
    },
    /// The list of recipients is empty or too long.
    #[error("an object needs 1 to {max} recipients, not {have}")]
    RecipientCount {
        /// How many were given.
        have: usize,
        /// [`MAX_RECIPIENTS`](super::MAX_RECIPIENTS).
        max: usize,
    },
    /// The recipients demand properties of each other that they do not have.
    #[error("the recipients cannot be used together: {message}")]
    IncompatibleRecipients {
        /// What the age library says of it.
        message: String,
    },
    /// The header that was made has not one stanza for each recipient.
    #[error("{recipients} recipients gave {stanzas} stanzas: a plugin does not keep to one stanza each")]
    StanzaCount {
        /// Recipients that the object was to be sealed to.
        recipients: usize,
        /// Stanzas in the header, those of age's own noise left out.
        stanzas: usize,
    },
    /// A line of an identity file is neither an identity nor a comment.
    #[error("line {line} of the identity file is not an age identity")]
    BadIdentity {
        /// Number of the line, from 1.
        line: usize,
    },
    /// An identity file is too large, not text, or not one that a passphrase protects.
    #[error("the identity file cannot be read: {why}")]
    BadIdentityFile {
        /// The rule that it breaks.
        why: &'static str,
    },
    /// An identity file holds no identity.
    #[error("the identity file holds no identity")]
    NoIdentity,
    /// An identity file is protected by a passphrase and none was given.
    #[error("the identity file is protected by a passphrase")]
    PassphraseNeeded,
    /// The passphrase does not open the identity file.
    #[error("the passphrase does not open the identity file")]
    WrongPassphrase,
    /// A passphrase is empty.
    #[error("an empty passphrase protects nothing")]
    EmptyPassphrase,
    /// The identity file asks for more work than is sane before a passphrase can be tried.
    #[error("the identity file asks for scrypt work factor {required}; the most accepted is {max}")]
    ExcessiveWork {
        /// Base-2 logarithm of the cost that the file asks for.
        required: u8,
        /// [`MAX_SCRYPT_WORK_FACTOR`](super::MAX_SCRYPT_WORK_FACTOR).
        max: u8,
    },
    /// The program of a plugin is not on the search path.
    #[error("the program age-plugin-{plugin} was not found")]
    PluginMissing {
        /// Name of the plugin.
        plugin: String,
    },
    /// A plugin ran and reported a failure.
    #[error("an age plugin failed: {message}")]
    Plugin {
        /// What the plugin or the age library says of it.
        message: String,
    },
    /// None of the identities opens the object. It may be whole: it is sealed to others.
    #[error("the object is not sealed to any of these identities")]
    NoMatch,
    /// The compression level is outside of what the format's window limit allows.
    #[error("compression level {level} is not in {min} to {max}")]
    CompressionLevel {
        /// The level asked for.
        level: i32,
        /// Lowest level.
        min: i32,
        /// Highest level.
        max: i32,
    },
    /// Something to be sealed or read is larger than the format or the caller allows.
    #[error("{what} of {have} bytes is larger than the limit of {max} bytes")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size in bytes.
        have: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// A bundle was finished without a member.
    #[error("a bundle needs at least one member")]
    EmptyBundle,
    /// A range outside of the plaintext was asked for, or the ciphertext given for it has another size.
    #[error(
        "bytes {start}..{end} with {ciphertext} bytes of ciphertext do not fit a plaintext of {plaintext} bytes"
    )]
    Range {
        /// First byte wanted.
        start: u64,
        /// Byte after the last one wanted.
        end: u64,
        /// Size of the ciphertext given; 0 when none was needed yet.
        ciphertext: u64,
        /// Size of the plaintext.
        plaintext: u64,
    },
    /// The compression library refused valid input.
    #[error("zstd failed: {message}")]
    Compression {
        /// What the library says of it.
        message: String,
    },
    /// The operating system gave no random bytes, or age failed without input being at fault.
    #[error("the age header could not be made: {message}")]
    Header {
        /// What the age library says of it.
        message: String,
    },
    /// The bytes are not what the format says.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
}

/// Names the rule of the format that an object's bytes break. Offsets count from the start of the header or,
/// for frames, of the plaintext. The list is closed: it grows only with the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Corruption {
    /// The bytes end within the age header.
    #[error("the age header is cut off after {have} bytes")]
    HeaderTruncated {
        /// Bytes there are.
        have: usize,
    },
    /// The first line is not `age-encryption.org/v1`.
    #[error("the object is not an age v1 file")]
    NotAgeV1,
    /// A line of the header is neither a stanza, its body nor the MAC, or is not in canonical form.
    #[error("the age header breaks its grammar at byte {offset}")]
    HeaderGrammar {
        /// Where the line begins.
        offset: usize,
    },
    /// The header is longer than [`MAX_HEADER_BYTES`](super::MAX_HEADER_BYTES).
    #[error("the age header is longer than {max} bytes")]
    HeaderTooLong {
        /// The limit in bytes.
        max: usize,
    },
    /// The header has more stanzas than [`MAX_STANZAS`](super::MAX_STANZAS).
    #[error("the age header has more than {max} stanzas")]
    TooManyStanzas {
        /// The limit.
        max: usize,
    },
    /// The header ends elsewhere than the record says.
    #[error("the age header has {have} bytes where the record says {expected}")]
    HeaderLength {
        /// Length in the object.
        have: u32,
        /// Length in the record.
        expected: u32,
    },
    /// A stanza that an identity takes for its own is malformed.
    #[error("a stanza of the age header is malformed")]
    HeaderStanza,
    /// The header was changed: its MAC does not fit the file key.
    #[error("the MAC of the age header is wrong")]
    HeaderMac,
    /// The object is too short to hold its header, nonce and one chunk.
    #[error("an object of {have} bytes cannot hold a header of {header_bytes} bytes and a payload")]
    ObjectTooShort {
        /// Size of the object in bytes.
        have: u64,
        /// Size of its header in bytes.
        header_bytes: u32,
    },
    /// The object is larger than [`MAX_OBJECT_BYTES`](super::MAX_OBJECT_BYTES).
    #[error("an object of {have} bytes is larger than the limit of {max} bytes")]
    ObjectTooLarge {
        /// Size of the object in bytes.
        have: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// The object has another size than the header was opened with.
    #[error("the object has {have} bytes where {expected} were expected")]
    ObjectLength {
        /// Bytes there are.
        have: u64,
        /// Bytes there should be.
        expected: u64,
    },
    /// A chunk of the payload was changed, moved, or is the last one where it must not be.
    #[error("chunk {index} of the payload is damaged")]
    Chunk {
        /// Number of the chunk, from 0.
        index: u64,
    },
    /// The payload ends with a chunk that holds nothing, or cannot end where it does.
    #[error("the payload of {payload_bytes} bytes does not end with a chunk that holds something")]
    FinalChunk {
        /// Size of the payload in bytes, without its nonce.
        payload_bytes: u64,
    },
    /// A frame breaks a rule.
    #[error("the zstd frame at byte {offset} {defect}")]
    Frame {
        /// Where the frame begins in the plaintext, or 0 for a member fetched alone.
        offset: u64,
        /// The rule.
        defect: FrameDefect,
    },
    /// The tar header of a member is not the canonical one for its content.
    #[error("the tar header of the member at byte {offset} is not canonical")]
    TarHeader {
        /// Where the member's frame begins.
        offset: u64,
    },
    /// A member's content is not followed by zeros up to a multiple of 512.
    #[error("the member at byte {offset} is not padded with zeros to a whole tar block")]
    TarPadding {
        /// Where the member's frame begins.
        offset: u64,
    },
    /// A member's content has another digest than its name says.
    #[error("the member at byte {offset} has digest {have} under the name {expected}")]
    MemberDigest {
        /// Where the member's frame begins.
        offset: u64,
        /// Digest of the content.
        have: Digest,
        /// The name in the tar header.
        expected: Digest,
    },
    /// A fetched member is whole, but is not the one that was expected.
    #[error(
        "member {have} of {have_bytes} bytes was found where {expected} of {expected_bytes} bytes was expected"
    )]
    MemberMismatch {
        /// Digest of the member found.
        have: Digest,
        /// Size of its content.
        have_bytes: u64,
        /// Digest of the member expected.
        expected: Digest,
        /// Size that it should have.
        expected_bytes: u64,
    },
    /// The contents of a bundle are larger than its body says.
    #[error("the members of the bundle have more than {max} bytes")]
    ExpansionLimit {
        /// The limit in bytes.
        max: u64,
    },
    /// A bundle has no member before its end.
    #[error("the bundle has no members")]
    NoMembers,
    /// The two zero blocks that end a tar archive are missing.
    #[error("the end of the tar archive is missing at byte {offset}")]
    TarEndMissing {
        /// Where it should be.
        offset: u64,
    },
    /// The frame that pads the plaintext is missing.
    #[error("the padding frame is missing at byte {offset}")]
    PaddingMissing {
        /// Where it should be.
        offset: u64,
    },
    /// The padding does not fill the plaintext exactly, or the plaintext has not the padded size.
    #[error(
        "the padding at byte {offset} brings the plaintext to {have} bytes where {expected} were expected"
    )]
    PaddingSize {
        /// Where the padding frame begins.
        offset: u64,
        /// Size that the padding frame leads to.
        have: u64,
        /// Padmé size of what stands before it.
        expected: u64,
    },
    /// Bytes follow the padding frame.
    #[error("{have} bytes follow the end of the padding")]
    TrailingBytes {
        /// How many bytes.
        have: u64,
    },
    /// A byte of the padding is not zero.
    #[error("byte {offset} of the padding is not zero")]
    PaddingNotZero {
        /// Where in the plaintext.
        offset: u64,
    },
}

/// Names the rule that a zstd frame breaks. Each text completes "the frame ...".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameDefect {
    /// The bytes are not a zstd frame of RFC 8878.
    #[error("does not begin with the zstd magic number")]
    Magic,
    /// The frame does not end within the plaintext, or its blocks are malformed.
    #[error("is cut off or malformed")]
    Truncated,
    /// The frame does not declare how large its content is.
    #[error("declares no content size")]
    NoContentSize,
    /// The frame carries no checksum.
    #[error("carries no checksum")]
    NoChecksum,
    /// The frame needs a dictionary, or uses a reserved bit.
    #[error("needs a dictionary or uses a reserved bit")]
    Feature,
    /// The frame needs a larger window than [`MAX_WINDOW_BYTES`](super::MAX_WINDOW_BYTES).
    #[error("needs a window of {0} bytes, over the limit")]
    Window(u64),
    /// The content is larger than the format or the caller allows.
    #[error("declares {0} bytes of content, over the limit")]
    ContentSize(u64),
    /// The content is not a whole number of tar blocks.
    #[error("declares {0} bytes of content, which is not a tar member")]
    NotTar(u64),
    /// The frame has another length than the body says.
    #[error("has {0} bytes, which is not the length that was expected")]
    Length(u64),
    /// The blocks do not decompress to the declared size and checksum.
    #[error("does not decompress to its declared size and checksum")]
    Content,
}
