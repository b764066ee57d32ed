"""The vector files: every datagram here is made from published test keys and fixed nonces."""

import json
import os

from primitive import chacha_seal, hmac_sha256, run, sha256, xchacha_seal, xor
from spa import Defect, Keys, decode, encode, masked, request_head, seal_reply, seal_request
from spa import write_reply, write_request

# The published test keys of keys/: 00 01 02 and so on, from one field to the next.
SERVER_ID, DOOR_KEY, CLIENT_ID, CLIENT_KEY = run(0x00, 16), run(0x10, 32), run(0x30, 8), run(0x40, 32)
KEYS = Keys(SERVER_ID, DOOR_KEY, CLIENT_ID, CLIENT_KEY)
OTHER_SERVER = Keys(run(0x80, 16), DOOR_KEY, CLIENT_ID, CLIENT_KEY)
OTHER_DOOR = Keys(SERVER_ID, run(0x90, 32), CLIENT_ID, CLIENT_KEY)
OTHER_CLIENT = Keys(SERVER_ID, DOOR_KEY, run(0xB0, 8), run(0xC0, 32))
OTHER_KEY = Keys(SERVER_ID, DOOR_KEY, CLIENT_ID, run(0xC0, 32))

# The reply vectors answer the request with this HMAC.
ASKED = sha256(b"the request that is answered")
TIME = 1_790_000_000_000
OPEN = {
    "action": "open", "reply": False, "replace": False, "source": True,
    "v4": None, "v6": None, "services": ["tcp/22"], "time": TIME, "ttl": 60,
}  # fmt: skip
ANSWER = {
    "status": "open", "time": TIME, "until": TIME + 60_000,
    "v4": "192.0.2.7", "v6": None, "services": ["tcp/22"],
}  # fmt: skip
GIVEN = {"source": False, "v4": "192.0.2.0/24", "v6": "2001:db8::/48"}
EIGHT = "#00000000 #ffffffff tcp/1 tcp/22 tcp/22-23 tcp/65535 udp/1-65535 udp/53".split()


def nonce_of(name):
    """A nonce for a vector: fixed by its name."""
    return sha256(b"nonce of " + name.encode())[:24]


def named(name):
    """A service by name: the first four bytes of SHA-256."""
    return "#" + sha256(name.encode())[:4].hex()


ACCEPT_REQUESTS = {
    "open-source": {},
    "open-v4": {"source": False, "v4": "198.51.100.23"},
    "open-v6": {"source": False, "v6": "2001:db8::17"},
    "open-v4-and-v6": {"source": False, "v4": "198.51.100.23", "v6": "2001:db8::17"},
    "open-source-and-v4": {"v4": "198.51.100.0/24"},
    "open-source-and-v6": {"v6": "2001:db8:1234::/56"},
    "v4-prefix-8": {"source": False, "v4": "10.0.0.0/8"},
    "v4-prefix-31": {"source": False, "v4": "10.255.255.254/31"},
    "v4-next-to-unusable": {"source": False, "v4": "126.0.0.0/8"},
    "v4-after-loopback": {"source": False, "v4": "128.0.0.0/8"},
    "v4-after-link-local": {"source": False, "v4": "169.255.0.0/16"},
    "v4-last-usable": {"source": False, "v4": "223.255.255.255"},
    "v6-prefix-32": {"source": False, "v6": "2001:db8::/32"},
    "v6-prefix-127": {"source": False, "v6": "2001:db8:ffff:ffff:ffff:ffff:ffff:fffe/127"},
    "v6-next-to-loopback": {"source": False, "v6": "::2"},
    "v6-next-to-mapped": {"source": False, "v6": "::fffe:0:0/96"},
    "v6-after-link-local": {"source": False, "v6": "fec0::/32"},
    "v6-last-usable": {"source": False, "v6": "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
    "services-none": {"services": []},
    "services-eight": {"services": EIGHT},
    "services-range": {"services": ["tcp/8000-8010"]},
    "services-all-ports": {"services": ["tcp/1-65535", "udp/1-65535"]},
    "services-overlap": {"services": ["tcp/80-90", "tcp/85"]},
    "services-named": {"services": sorted([named("ssh"), named("web")]) + ["udp/51820"]},
    "time-zero": {"time": 0},
    "time-max": {"time": (1 << 47) - 1},
    "ttl-default": {"ttl": 0},
    "ttl-max": {"ttl": (1 << 32) - 1},
    "reply-wanted": {"reply": True},
    "replace": {"replace": True},
    "close": {"action": "close", "ttl": 0},
    "close-everything": {"action": "close", "ttl": 0, "replace": True, "services": []},
    "every-field": {**GIVEN, "reply": True, "replace": True, "services": EIGHT, "ttl": 3600},
    "nonce-zero": {},
    "nonce-ones": {},
}

ACCEPT_REPLIES = {
    "reply-open": {},
    "reply-closed": {"status": "closed", "until": 0},
    "reply-refused": {"status": "refused", "until": 0, "services": []},
    "reply-failed": {"status": "failed", "until": 0},
    "reply-busy": {"status": "busy", "until": 0},
    "reply-v6": {"v4": None, "v6": "2001:db8::17"},
    "reply-every-field": {"v4": "192.0.2.0/24", "v6": "2001:db8::/48", "services": EIGHT},
    "reply-times-max": {"time": (1 << 47) - 1, "until": (1 << 47) - 1},
}


def v4(text, length):
    """Bytes 4, 5 and 24..28 of a request for one IPv4 prefix, right or wrong."""
    return {4: b"\x02", 5: bytes([length]), 24: bytes(map(int, text.split(".")))}


def v6(raw, length):
    """Bytes 4, 6 and 28..44 of a request for one IPv6 prefix, right or wrong: as hex."""
    return {4: b"\x04", 6: bytes([length]), 28: bytes.fromhex(raw.ljust(32, "0"))}


def services(*texts, count=None):
    """Byte 7 and the services of a request, each as twelve hex digits."""
    return {7: bytes([len(texts) if count is None else count]), 44: bytes.fromhex("".join(texts))}


SSH, DNS = "060000160016", "110000350035"
FULL = [f"0600{n:04x}{n:04x}" for n in range(1, 9)]

# What is written over the plaintext of an otherwise right request, each with one fault.
BAD_REQUESTS = {
    **{f"version-{n}": {0: bytes([n])} for n in (0, 2, 255)},
    **{f"action-{n}": {1: bytes([n])} for n in (0, 3, 255)},
    **{f"flag-bit-{n}": {2: (1 << n).to_bytes(2, "big")} for n in range(2, 16)},
    "addresses-none": {4: b"\x00"},
    "addresses-all-three": {**v4("192.0.2.7", 32), **v6("20010db8", 128), 4: b"\x07"},
    **{f"addresses-bit-{n}": {4: bytes([1 | 1 << n])} for n in range(3, 8)},
    "v4-prefix-0": v4("0.0.0.0", 0),
    "v4-prefix-7": v4("2.0.0.0", 7),
    "v4-prefix-33": v4("192.0.2.7", 33),
    "v4-prefix-255": v4("192.0.2.7", 255),
    "v4-prefix-without-address": {5: b"\x20"},
    "v4-address-without-bit": {24: b"\xc0\x00\x02\x07"},
    "v4-bit-behind-prefix": v4("192.0.2.1", 24),
    "v6-prefix-0": v6("", 0),
    "v6-prefix-31": v6("2001", 31),
    "v6-prefix-129": v6("20010db8", 129),
    "v6-prefix-255": v6("20010db8", 255),
    "v6-prefix-without-address": {6: b"\x80"},
    "v6-address-without-bit": {28: bytes.fromhex("20010db8")},
    "v6-bit-behind-prefix": v6("20010db8000000000000000000000001", 64),
    "v4-unusable-this-network": v4("0.1.2.3", 32),
    "v4-unusable-unspecified": v4("0.0.0.0", 32),
    "v4-unusable-loopback": v4("127.0.0.1", 32),
    "v4-unusable-loopback-whole": v4("127.0.0.0", 8),
    "v4-unusable-loopback-last": v4("127.255.255.255", 32),
    "v4-unusable-link-local-last": v4("169.254.255.255", 32),
    "v4-unusable-link-local": v4("169.254.7.7", 32),
    "v4-unusable-around-link-local": v4("169.0.0.0", 8),
    "v4-unusable-multicast": v4("224.0.0.1", 32),
    "v4-unusable-multicast-last": v4("239.255.255.255", 32),
    "v4-unusable-reserved": v4("240.0.0.0", 8),
    "v4-unusable-broadcast": v4("255.255.255.255", 32),
    "v6-unusable-unspecified": v6("", 128),
    "v6-unusable-loopback": v6("01".zfill(32), 128),
    "v6-unusable-around-loopback": v6("", 120),
    "v6-unusable-around-mapped": v6("", 32),
    "v6-unusable-half-around-mapped": v6("000000000000000000008", 81),
    "v6-mapped": v6("00000000000000000000ffffc0000207", 128),
    "v6-mapped-whole": v6("00000000000000000000ffff", 96),
    "v6-unusable-link-local": v6("fe800000000000000000000000000001", 128),
    "v6-unusable-link-local-last": v6("febfffff", 32),
    "v6-unusable-multicast": v6("ff020000000000000000000000000001", 128),
    "v6-unusable-multicast-whole": v6("ff000000", 32),
    "v6-unusable-last": v6("f" * 32, 128),
    "services-count-9": services(*FULL, count=9),
    "services-count-255": services(*FULL, count=255),
    "services-count-low": services(SSH, DNS, count=1),
    "services-count-high": services(SSH, count=2),
    "services-last-place-unused": {**services(SSH), 86: bytes.fromhex(DNS)},
    "services-twice": services(SSH, SSH),
    "services-unsorted-kind": services(DNS, SSH),
    "services-unsorted-kind-only": services("110000160016", "060000350035"),
    "services-unsorted-first": services("060000170017", SSH),
    "services-unsorted-last": services("060000160017", SSH),
    "services-unsorted-name": services("010000000002", "010000000001"),
    "service-all-zero": services("000000000000"),
    "service-port-zero": services("060000000000"),
    "service-first-zero": services("060000000016"),
    "service-reversed": services("060000170016"),
    "service-udp-port-zero": services("110000000000"),
    **{f"service-kind-{n}": services(f"{n:02x}0000160016") for n in (0, 2, 5, 7, 132, 255)},
    "service-second-byte": services("060100160016"),
    "service-name-second-byte": services("010100160016"),
    "close-with-ttl": {1: b"\x02"},
    "time-too-large": {8: (1 << 47).to_bytes(8, "big")},
    "time-all-ones": {8: b"\xff" * 8},
    **{f"zero-byte-{n}": {n: b"\x01"} for n in (20, 21, 22, 23, 92, 93, 94, 95)},
    **{f"behind-request-byte-{n}": {n: b"\x01"} for n in (96, 150, 203)},
}

BAD_REPLIES = {
    **{f"version-{n}": {0: bytes([n])} for n in (0, 2)},
    **{f"status-{n}": {1: bytes([n])} for n in (0, 6, 255)},
    **{f"zero-byte-{n}": {n: b"\x01"} for n in (2, 3, 92, 95, 96, 215)},
    "time-too-large": {4: (1 << 47).to_bytes(8, "big")},
    "until-too-large": {12: (1 << 47).to_bytes(8, "big")},
    "addresses-none": {20: b"\x00\x00", 24: bytes(4)},
    "source-bit": {20: b"\x03"},
    "source-alone": {20: b"\x01\x00", 24: bytes(4)},
    "addresses-bit-3": {20: b"\x0a"},
    "v4-prefix-7": {21: b"\x07", 24: b"\x02\x00\x00\x00"},
    "v4-prefix-33": {21: b"\x21"},
    "v4-bit-behind-prefix": {21: b"\x18"},
    "v4-address-without-bit": {20: b"\x04\x00\x80", 28: bytes.fromhex("20010db8")},
    "v4-unusable-loopback": {24: b"\x7f\x00\x00\x01"},
    "v6-prefix-without-address": {22: b"\x80"},
    "v6-mapped": {20: b"\x04\x00\x80", 24: bytes(14) + b"\xff\xff\xc0\x00\x02\x07"},
    "services-count-9": {23: b"\x09", 44: bytes.fromhex("".join(FULL))},
    "services-count-low": {23: b"\x00"},
    "services-unsorted": {23: b"\x02", 44: bytes.fromhex(DNS + SSH)},
    "service-port-zero": {44: bytes.fromhex("060000000000")},
    "service-kind-0": {44: bytes.fromhex("000000160016")},
}


def patched(body, changes):
    """A plaintext with some bytes written over."""
    body = bytearray(body)
    for at, raw in changes.items():
        body[at : at + len(raw)] = raw
    return bytes(body)


def flip(data, at):
    """Data with the lowest bit of one byte turned over."""
    return patched(data, {at: bytes([data[at] ^ 1])})


def broken_requests():
    """Yields (name, defect, datagram) for requests that fail before their plaintext is read."""
    body = write_request(OPEN)
    made = lambda name, keys=KEYS: seal_request(keys, nonce_of(name), body)

    def proven(said, mac=KEYS.mac):
        return said + hmac_sha256(mac, said)

    def sealed(name, head, seal=KEYS.seal, data=None, nonce=None):
        data = SERVER_ID + head if data is None else data
        return proven(head + xchacha_seal(seal, nonce or head[:24], data, body))

    for size in (0, 1, 36, 256, 287):
        yield f"length-{size}", "length", made(f"length-{size}")[:size]
    for size in (289, 576, 1500):
        yield f"length-{size}", "length", made(f"length-{size}").ljust(size, b"\0")

    yield "admission-flipped", "admission", flip(made("admission-flipped"), 24)
    yield "admission-last-byte-flipped", "admission", flip(made("admission-last-byte-flipped"), 27)
    yield "nonce-start-flipped", "admission", flip(made("nonce-start-flipped"), 7)
    yield "admission-other-door", "admission", made("admission-other-door", OTHER_DOOR)
    yield "admission-other-server", "admission", made("admission-other-server", OTHER_SERVER)
    head = request_head(KEYS, nonce_of("admission-big-endian"))
    yield "admission-big-endian", "admission", sealed("", head[:24] + head[27:23:-1] + head[28:])

    yield "client-unknown", "client", made("client-unknown", OTHER_CLIENT)
    yield "client-flipped", "client", flip(made("client-flipped"), 35)
    yield "nonce-end-flipped", "client", flip(made("nonce-end-flipped"), 23)
    head = request_head(KEYS, nonce_of("client-unmasked"))
    yield "client-unmasked", "client", sealed("", head[:28] + CLIENT_ID)
    nonce = nonce_of("client-other-mask")
    head = request_head(KEYS, nonce)[:28] + masked(OTHER_DOOR, nonce, CLIENT_ID)
    yield "client-other-mask", "client", sealed("", head)

    for name, at in (("hmac-flipped", 256), ("hmac-last-byte-flipped", 287), ("nonce-middle-flipped", 10),
                     ("body-flipped", 36), ("tag-flipped", 255)):  # fmt: skip
        yield name, "hmac", flip(made(name), at)
    yield "hmac-zero", "hmac", made("hmac-zero")[:256] + bytes(32)
    yield "hmac-other-key", "hmac", made("hmac-other-key", OTHER_KEY)
    for name, mac in (("hmac-other-server", OTHER_SERVER.mac), ("hmac-of-replies", KEYS.reply_mac)):
        yield name, "hmac", proven(made(name)[:256], mac)

    for name, at in (("seal-body-flipped", 36), ("seal-body-end-flipped", 239), ("seal-tag-flipped", 240),
                     ("seal-tag-end-flipped", 255)):  # fmt: skip
        yield name, "seal", proven(flip(made(name), at)[:256])
    heads = lambda name: request_head(KEYS, nonce_of(name))
    for name, changes in (
        ("seal-other-key", {"seal": OTHER_KEY.seal}),
        ("seal-other-server", {"seal": OTHER_SERVER.seal}),
        ("seal-of-replies", {"seal": KEYS.reply_seal}),
        ("seal-other-nonce", {"nonce": nonce_of("another")}),
        ("seal-data-none", {"data": b""}),
        ("seal-data-without-head", {"data": SERVER_ID}),
        ("seal-data-without-server", {"data": heads("seal-data-without-server")}),
        ("seal-data-other-server", {"data": OTHER_SERVER.server_id + heads("seal-data-other-server")}),
    ):
        yield name, "seal", sealed("", heads(name), **changes)
    head = heads("seal-short-nonce")
    yield "seal-short-nonce", "seal", proven(head + chacha_seal(KEYS.seal, head[12:24], SERVER_ID + head, body))
    yield "seal-none", "seal", proven(heads("seal-none") + body + bytes(16))
    yield "reply-as-request", "admission", seal_reply(KEYS, nonce_of("reply-as-request"), write_reply(ANSWER), ASKED)


def broken_replies():
    """Yields (name, defect, datagram) for replies that fail before their plaintext is read."""
    body = write_reply(ANSWER)
    made = lambda name, keys=KEYS, asked=ASKED: seal_reply(keys, nonce_of("reply-" + name), body, asked)
    proven = lambda said, mac=KEYS.reply_mac: said + hmac_sha256(mac, ASKED + said)
    for size in (0, 287):
        yield f"length-{size}", "length", made(f"length-{size}")[:size]
    yield "length-289", "length", made("length-289") + b"\0"
    for name, at in (("hmac-flipped", 287), ("nonce-flipped", 0), ("body-flipped", 24), ("tag-flipped", 255)):
        yield name, "hmac", flip(made(name), at)
    yield "other-request", "hmac", made("other-request", asked=sha256(b"another request"))
    yield "other-client", "hmac", made("other-client", OTHER_CLIENT)
    yield "other-server", "hmac", made("other-server", OTHER_SERVER)
    said = made("hmac-of-requests")[:256]
    yield "hmac-of-requests", "hmac", proven(said, KEYS.mac)
    said = made("hmac-without-request")[:256]
    yield "hmac-without-request", "hmac", said + hmac_sha256(KEYS.reply_mac, said)
    yield "request-as-reply", "hmac", seal_request(KEYS, nonce_of("request-as-reply"), write_request(OPEN))
    for name, at in (("seal-body-flipped", 24), ("seal-tag-flipped", 240)):
        yield name, "seal", proven(flip(made(name), at)[:256])
    for name, seal, data in (
        ("seal-other-request", KEYS.reply_seal, SERVER_ID + sha256(b"another request")),
        ("seal-other-server", KEYS.reply_seal, OTHER_SERVER.server_id + ASKED),
        ("seal-data-none", KEYS.reply_seal, b""),
        ("seal-of-requests", KEYS.seal, SERVER_ID + ASKED),
    ):
        nonce = nonce_of("reply-" + name)
        yield name, "seal", proven(nonce + xchacha_seal(seal, nonce, data, body))


def accepted():
    """Yields (name, kind, datagram, meaning)."""
    for name, changes in ACCEPT_REQUESTS.items():
        nonce = {"nonce-zero": bytes(24), "nonce-ones": b"\xff" * 24}.get(name, nonce_of(name))
        meaning = {**OPEN, **changes}
        yield name, "request", encode(KEYS, "request", nonce, meaning), meaning
    for name, changes in ACCEPT_REPLIES.items():
        meaning = {**ANSWER, **changes}
        yield name, "reply", encode(KEYS, "reply", nonce_of(name), meaning, ASKED), meaning


def refused():
    """Yields (name, kind, datagram, defect)."""
    for name, defect, datagram in broken_requests():
        yield name, "request", datagram, defect
    for name, changes in BAD_REQUESTS.items():
        body = patched(write_request(OPEN), changes)
        yield name, "request", seal_request(KEYS, nonce_of(name), body), "encoding"
    for name, defect, datagram in broken_replies():
        yield "reply-" + name, "reply", datagram, defect
    for name, changes in BAD_REPLIES.items():
        body = patched(write_reply(ANSWER), changes)
        yield "reply-" + name, "reply", seal_reply(KEYS, nonce_of("reply-" + name), body, ASKED), "encoding"


def write(directory):
    """Writes every vector below the directory; returns what went wrong."""
    wrong, seen = [], set()
    for folder, field, vectors in (("accept", "meaning", accepted()), ("reject", "defect", refused())):
        os.makedirs(os.path.join(directory, folder), exist_ok=True)
        for name, kind, datagram, said in vectors:
            found = None
            try:
                decode(KEYS, kind, datagram, ASKED)
            except Defect as defect:
                found = str(defect)
            if found != (said if field == "defect" else None) or (folder, name) in seen:
                wrong.append(f"{folder}/{name}: {found}, not {said}")
            seen.add((folder, name))
            item = {
                "server_id": SERVER_ID.hex(),
                "door_key": DOOR_KEY.hex(),
                "client_id": CLIENT_ID.hex(),
                "client_key": CLIENT_KEY.hex(),
                "kind": kind,
                **({"request_hmac": ASKED.hex()} if kind == "reply" else {}),
                "datagram": datagram.hex(),
                field: said,
            }
            with open(os.path.join(directory, folder, name + ".json"), "w", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps(item, indent=2) + "\n")
    return wrong
