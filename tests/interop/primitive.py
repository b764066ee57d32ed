"""The ciphers under the wire in plain Python, each from its own specification.

For tests only: nothing here runs in constant time. SHA-256 and HMAC are the standard library's.
"""

import hashlib
import hmac
import struct

WORD = 0xFFFFFFFF


def rotl(x, n):
    """The 32-bit word x, rotated left by n bits."""
    return ((x << n) | (x >> (32 - n))) & WORD


def quarter(s, a, b, c, d):
    """The quarter round on four words of the state (RFC 8439 section 2.1)."""
    s[a] = (s[a] + s[b]) & WORD
    s[d] = rotl(s[d] ^ s[a], 16)
    s[c] = (s[c] + s[d]) & WORD
    s[b] = rotl(s[b] ^ s[c], 12)
    s[a] = (s[a] + s[b]) & WORD
    s[d] = rotl(s[d] ^ s[a], 8)
    s[c] = (s[c] + s[d]) & WORD
    s[b] = rotl(s[b] ^ s[c], 7)


def chacha_rounds(state):
    """Twenty rounds: ten times four columns and four diagonals (RFC 8439 section 2.3)."""
    s = list(state)
    for _ in range(10):
        for i in range(4):
            quarter(s, i, i + 4, i + 8, i + 12)
        for i in range(4):
            quarter(s, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return s


def chacha_state(key, rest):
    """The 16 words at the start: four constants, the key and 16 bytes more."""
    if len(key) != 32 or len(rest) != 16:
        raise ValueError("ChaCha20 takes 32 bytes of key and 16 of counter and nonce")
    return struct.unpack("<16I", b"expand 32-byte k" + key + rest)


def chacha20_block(key, counter, nonce):
    """64 bytes of key stream (RFC 8439 section 2.3)."""
    state = chacha_state(key, struct.pack("<I", counter) + nonce)
    words = [(a + b) & WORD for a, b in zip(state, chacha_rounds(state))]
    return struct.pack("<16I", *words)


def xor(a, b):
    """The bytes of a and b, as far as both go, by exclusive or."""
    return bytes(x ^ y for x, y in zip(a, b))


def chacha20(key, counter, nonce, data):
    """Data under the key stream from the given block on (RFC 8439 section 2.4)."""
    blocks = range((len(data) + 63) // 64)
    return xor(data, b"".join(chacha20_block(key, counter + i, nonce) for i in blocks))


def hchacha20(key, nonce):
    """A subkey of 32 bytes out of a nonce of 16 (draft-irtf-cfrg-xchacha-03 section 2.2)."""
    s = chacha_rounds(chacha_state(key, nonce))
    return struct.pack("<8I", *s[:4], *s[12:])


def poly1305(key, message):
    """The one-time authenticator, 16 bytes (RFC 8439 section 2.5)."""
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for i in range(0, len(message), 16):
        total += int.from_bytes(message[i : i + 16] + b"\x01", "little")
        total = total * r % ((1 << 130) - 5)
    total += int.from_bytes(key[16:], "little")
    return (total & ((1 << 128) - 1)).to_bytes(16, "little")


def aead_tag(key, nonce, data, sealed):
    """The tag over the associated data and the ciphertext (RFC 8439 section 2.8)."""
    once = chacha20_block(key, 0, nonce)[:32]
    pad = lambda x: x + bytes(-len(x) % 16)
    return poly1305(once, pad(data) + pad(sealed) + struct.pack("<QQ", len(data), len(sealed)))


def chacha_seal(key, nonce, data, plain):
    """Ciphertext and tag of AEAD_CHACHA20_POLY1305 (RFC 8439 section 2.8)."""
    sealed = chacha20(key, 1, nonce, plain)
    return sealed + aead_tag(key, nonce, data, sealed)


def inner(key, nonce):
    """The key and nonce of the ChaCha20 inside an XChaCha20 (draft, section 2.3)."""
    return hchacha20(key, nonce[:16]), bytes(4) + nonce[16:]


def xchacha_seal(key, nonce, data, plain):
    """Ciphertext and tag of AEAD_XChaCha20_Poly1305 (draft, section 2)."""
    return chacha_seal(*inner(key, nonce), data, plain)


def xchacha_open(key, nonce, data, sealed):
    """The plaintext, or None if the tag is wrong."""
    key, nonce = inner(key, nonce)
    body, tag = sealed[:-16], sealed[-16:]
    if not hmac.compare_digest(aead_tag(key, nonce, data, body), tag):
        return None
    return chacha20(key, 1, nonce, body)


def halfsip(key, message):
    """HalfSipHash-2-4 with 32 bits of output, as the four bytes in which its authors write it."""
    k0, k1 = struct.unpack("<2I", key)
    v = [k0, k1, 0x6C796765 ^ k0, 0x74656462 ^ k1]

    def rounds(n):
        for _ in range(n):
            v[0] = (v[0] + v[1]) & WORD
            v[2] = (v[2] + v[3]) & WORD
            v[1] = rotl(v[1], 5) ^ v[0]
            v[3] = rotl(v[3], 8) ^ v[2]
            v[0] = rotl(v[0], 16)
            v[0] = (v[0] + v[3]) & WORD
            v[2] = (v[2] + v[1]) & WORD
            v[3] = rotl(v[3], 7) ^ v[0]
            v[1] = rotl(v[1], 13) ^ v[2]
            v[2] = rotl(v[2], 16)

    # The last word is what is left over of the message, with its length in the top byte.
    padded = message + bytes(3 - len(message) % 4) + bytes([len(message) & 0xFF])
    for (word,) in struct.iter_unpack("<I", padded):
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return struct.pack("<I", v[1] ^ v[3])


def sha256(data):
    """SHA-256 (FIPS 180-4)."""
    return hashlib.sha256(data).digest()


def hmac_sha256(key, data):
    """HMAC with SHA-256 (RFC 2104)."""
    return hmac.new(key, data, hashlib.sha256).digest()


def hkdf_extract(salt, secret):
    """The pseudorandom key of RFC 5869 section 2.2."""
    return hmac_sha256(salt, secret)


def hkdf_expand(prk, info, length):
    """Output keying material of RFC 5869 section 2.3."""
    out, block, n = b"", b"", 1
    while len(out) < length:
        block = hmac_sha256(prk, block + info + bytes([n]))
        out, n = out + block, n + 1
    return out[:length]


SUNSCREEN = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for "
    b"the future, sunscreen would be it."
)

# The 64 outputs of vectors_hsip32 (github.com/veorq/SipHash, vectors.h): key 00..07, and the
# message of number n is the n bytes 00, 01, 02 and so on.
HSIP32 = """
a9359f5b 27475ab8 fa62a603 8afee704 2a6e4689 c5fab669 5863fc23 8bcf63c5
d0b8848f f806e779 94b07934 08083050 57f0872f 77e663ff d6fff87c 74fe2b97
d9b5ac84 c474645b 465b8d9b 7befe387 e34d1045 613f62b3 70f367fe e6adb8bd
27400c63 26787875 4f567b5f 3ab0e669 b0644000 ff670fb4 509e338b 5d589f1a
fee72112 33753259 6a434f8c fe28b729 e75cc6ec 697e8d54 63688b0f 650b62b4
b6bc1840 5d074505 2442fd2e 7bb7863a 7705d548 d75208b1 b6d499c8 0892202e
69e12ce3 8db580e5 369764c6 016e0204 3b85f3d4 fedb66be 1e692a3a c68984c0
a5c5b940 9be9e88c 7dbc8140 7c078ec5 d4e76c73 428fcbb9 bd83997a 59ea4a74
""".split()


def run(first, count):
    """The bytes first, first + 1 and so on."""
    return bytes(range(first, first + count))


def selftest():
    """Yields (name, what came out, what is published) for each published vector."""
    h = bytes.fromhex
    yield "RFC 8439 2.3.2, ChaCha20 block", chacha20_block(run(0, 32), 1, h("000000090000004a00000000")), h(
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
    )
    yield "RFC 8439 2.4.2, ChaCha20", chacha20(run(0, 32), 1, h("000000000000004a00000000"), SUNSCREEN), h(
        "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0b"
        "f91b65c5524733ab8f593dabcd62b3571639d624e65152ab8f530c359f0861d8"
        "07ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab7793736"
        "5af90bbf74a35be6b40b8eedf2785e42874d"
    )
    poly = "85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b"
    yield "RFC 8439 2.5.2, Poly1305", poly1305(
        h(poly), b"Cryptographic Forum Research Group"
    ), h("a8061dc1305136c6c22b8baf0c0127a9")
    ff, one, two = "ff" * 16, "01" + "00" * 15, "02" + "00" * 15
    # Where the sum wraps at 2^130 - 5 and at 2^128: RFC 8439 appendix A.3.
    for n, r, s, message, tag in [
        (7, two, "00" * 16, ff, "03" + "00" * 15),
        (8, two, ff, two, "03" + "00" * 15),
        (9, one, "00" * 16, ff + "f0" + "ff" * 15 + "11" + "00" * 15, "05" + "00" * 15),
        (10, one, "00" * 16, ff + "fb" + "fe" * 15 + "01" * 16, "00" * 16),
        (11, two, "00" * 16, "fd" + "ff" * 15, "fa" + "ff" * 15),
    ]:
        yield f"RFC 8439 A.3, Poly1305 vector {n}", poly1305(h(r + s), h(message)), h(tag)
    yield "RFC 8439 2.8.2, AEAD", chacha_seal(
        run(0x80, 32), h("070000004041424344454647"), h("50515253c0c1c2c3c4c5c6c7"), SUNSCREEN
    )[-16:], h("1ae10b594f09e26a7e902ecbd0600691")
    yield "draft-irtf-cfrg-xchacha-03 2.2.1, HChaCha20", hchacha20(
        run(0, 32), h("000000090000004a0000000031415927")
    ), h("82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc")
    sealed = h(
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb"
        "731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452"
        "2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
        "21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49"
    )
    name, asked = "draft-irtf-cfrg-xchacha-03 A.3.1, ", (run(0x80, 32), run(0x40, 24), h("50515253c0c1c2c3c4c5c6c7"))
    yield name + "seal", xchacha_seal(*asked, SUNSCREEN), sealed
    yield name + "open", xchacha_open(*asked, sealed), SUNSCREEN
    for bad in (0, len(sealed) - 1):
        broken = bytearray(sealed)
        broken[bad] ^= 1
        yield name + f"a flipped bit in byte {bad}", xchacha_open(*asked, bytes(broken)), None
    for n, out in enumerate(HSIP32):
        yield f"vectors_hsip32[{n}]", halfsip(run(0, 8), run(0, n)), h(out)
    prk = hkdf_extract(run(0, 13), b"\x0b" * 22)
    yield "RFC 5869 A.1, extract", prk, h(
        "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"
    )
    yield "RFC 5869 A.1, expand", hkdf_expand(prk, run(0xF0, 10), 42), h(
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )
    yield "RFC 5869 A.2", hkdf_expand(hkdf_extract(run(0x60, 80), run(0, 80)), run(0xB0, 80), 82), h(
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
        "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
        "cc30c58179ec3e87c14c01d5c1f3434f1d87"
    )
    yield "RFC 5869 A.3", hkdf_expand(hkdf_extract(b"", b"\x0b" * 22), b"", 42), h(
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )
