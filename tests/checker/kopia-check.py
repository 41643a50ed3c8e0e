#!/usr/bin/env python3
"""A second, independent reader of Kopia repositories on a local disk, written from a description of the format. It knows
nothing of Careen's code: the judge where there is no real Kopia. Slow and simple on purpose; small repositories only.
needs: pip install -r requirements.txt
usage: kopia-check.py DATADIR CMD [ARGS] [--password=P]      (`verify` decodes and hashes every content, walks all snapshots)
CMD: status | format | blobs | indexes | contents [--deleted] | content ID | object OID | manifests | walk | maintenance | sessions
     | logs | packs | recover PACK | inspect INDEXBLOB | verify | epochs | v0log"""
import sys, os, json, hashlib, hmac, struct, base64, zlib, gzip, re, datetime, math, time
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
import zstandard, blake3, lz4.frame
import numpy as np

PW = os.environ.get('KOPIA_PASSWORD', 'static-passw0rd')

# ---------- storage: sharded filesystem (spec 1.4)
class FS:
    def __init__(self, root):
        self.root = root
        p = os.path.join(root, '.shards')
        self.sh = json.load(open(p)) if os.path.exists(p) else {"default": [3, 3], "maxNonShardedLength": 20}
    def path(self, bid):
        if len(bid) <= self.sh.get('maxNonShardedLength', 20): return os.path.join(self.root, bid + '.f')
        shards = self.sh['default']
        for o in self.sh.get('overrides') or []:
            if bid.startswith(o['prefix']): shards = o['shards']; break
        parts, rest = [], bid
        for s in shards:
            if len(rest) <= s: break
            parts.append(rest[:s]); rest = rest[s:]
        return os.path.join(self.root, *parts, rest + '.f')
    def get(self, bid): return open(self.path(bid), 'rb').read()
    def put(self, bid, data):
        p = self.path(bid); os.makedirs(os.path.dirname(p), mode=0o700, exist_ok=True)
        t = p + '.tmp.' + os.urandom(8).hex()
        with open(t, 'wb') as f: f.write(data)
        os.chmod(t, 0o600); os.rename(t, p)
    def delete(self, bid): os.remove(self.path(bid))
    def exists(self, bid): return os.path.exists(self.path(bid))
    def list(self, prefix=''):
        for d, dirs, files in os.walk(self.root):
            rel = os.path.relpath(d, self.root); rel = '' if rel == '.' else rel.replace('/', '')
            for f in files:
                if not f.endswith('.f'): continue
                bid = rel + f[:-2]
                if bid.startswith(prefix):
                    st = os.stat(os.path.join(d, f))
                    yield bid, st.st_size, st.st_mtime

def hkdf(ikm, salt, info, n):
    prk = hmac.new(salt or b'\0' * 32, ikm, hashlib.sha256).digest()
    out, t, i = b'', b'', 1
    while len(out) < n:
        t = hmac.new(prk, t + info + bytes([i]), hashlib.sha256).digest(); out += t; i += 1
    return out[:n]

# ---------- format (spec 2)
def password_key(algo, pw, salt):
    if algo == 'scrypt-65536-8-1': return hashlib.scrypt(pw.encode(), salt=salt, n=65536, r=8, p=1, maxmem=1 << 28, dklen=32)
    if algo == 'pbkdf2-sha256-600000': return hashlib.pbkdf2_hmac('sha256', pw.encode(), salt, 600000, 32)
    raise Exception('unknown keyAlgo %r' % algo)

def envelope_open(fk, uid, data):
    k = hkdf(fk, uid, b'AES', 32); a = hkdf(fk, uid, b'CHECKSUM', 32)
    return AESGCM(k).decrypt(data[:12], data[12:], a)

def make_hash(name, key):
    def b2b(n, cut): return lambda d: hashlib.blake2b(d, digest_size=n, key=key).digest()[:cut]
    def b2s(n): return lambda d: hashlib.blake2s(d, digest_size=n, key=key).digest()
    def b3(cut):
        k = key
        if len(k) < 32: k = blake3.blake3(k, derive_key_context='kopia blake3 derived key v1').digest(32)
        k = k[:32]
        return lambda d: blake3.blake3(d, key=k).digest()[:cut]
    def hm(algo, cut): return lambda d: hmac.new(key, d, algo).digest()[:cut]
    return {'BLAKE2B-256-128': b2b(32, 16), 'BLAKE2B-256': b2b(32, 32), 'BLAKE2S-128': b2s(16), 'BLAKE2S-256': b2s(32),
            'BLAKE3-256': b3(32), 'BLAKE3-256-128': b3(16), 'HMAC-SHA256': hm('sha256', 32), 'HMAC-SHA256-128': hm('sha256', 16),
            'HMAC-SHA224': hm('sha224', 28), 'HMAC-SHA3-224': hm('sha3_224', 28), 'HMAC-SHA3-256': hm('sha3_256', 32)}[name]

class Enc:
    def __init__(self, name, master):
        self.S = hkdf(master, b'encryption', b'', 32)
        self.cls = {'AES256-GCM-HMAC-SHA256': AESGCM, 'CHACHA20-POLY1305-HMAC-SHA256': ChaCha20Poly1305}[name]
    def key(self, iv): return hmac.new(self.S, iv, hashlib.sha256).digest()
    def encrypt(self, pt, iv):
        n = os.urandom(12); return n + self.cls(self.key(iv)).encrypt(n, pt, iv)
    def decrypt(self, ct, iv): return self.cls(self.key(iv)).decrypt(ct[:12], ct[12:], iv)

# ---------- ECC (spec 3.3)
EXP = [0] * 512; LOG = [0] * 256
_x = 1
for _i in range(255):
    EXP[_i] = _x; LOG[_x] = _i
    _x <<= 1
    if _x & 256: _x ^= 0x11D
for _i in range(255, 512): EXP[_i] = EXP[_i - 255]
def gmul(a, b): return 0 if a == 0 or b == 0 else EXP[LOG[a] + LOG[b]]
def ginv(a): return EXP[255 - LOG[a]]
def gpow(a, n):
    if n == 0: return 1
    if a == 0: return 0
    return EXP[(LOG[a] * n) % 255]
MULT = np.zeros((256, 256), dtype=np.uint8)
for _a in range(256):
    for _b in range(256): MULT[_a, _b] = gmul(_a, _b)
def minv(m):
    n = len(m); a = [list(r) + [1 if i == j else 0 for j in range(n)] for i, r in enumerate(m)]
    for c in range(n):
        p = next(r for r in range(c, n) if a[r][c]); a[c], a[p] = a[p], a[c]
        iv = ginv(a[c][c]); a[c] = [gmul(iv, v) for v in a[c]]
        for r in range(n):
            if r != c and a[r][c]:
                f = a[r][c]; a[r] = [v ^ gmul(f, w) for v, w in zip(a[r], a[c])]
    return [r[n:] for r in a]
_mat = {}
def rs_matrix(d, p):
    if (d, p) not in _mat:
        vm = [[gpow(r, c) for c in range(d)] for r in range(d + p)]
        ti = minv(vm[:d])
        out = []
        for r in range(d, d + p):
            row = np.zeros(d, dtype=np.uint8)
            for k in range(d): row ^= MULT[vm[r][k], np.array(ti[k], dtype=np.uint8)]
            out.append(row)
        _mat[(d, p)] = np.array(out)
    return _mat[(d, p)]
def rs_parity(shards, p):
    d = len(shards); m = rs_matrix(d, p); out = []
    for r in range(p):
        acc = np.zeros(len(shards[0]), dtype=np.uint8)
        for c in range(d): acc ^= MULT[m[r, c], shards[c]]
        out.append(acc)
    return out
def rs_reconstruct(data, parity, d, p):  # lists with None for lost shards
    m = rs_matrix(d, p); rows, vals = [], []
    for i in range(d):
        if data[i] is not None: rows.append([1 if j == i else 0 for j in range(d)]); vals.append(data[i])
    for i in range(p):
        if len(rows) == d: break
        if parity[i] is not None: rows.append([int(v) for v in m[i]]); vals.append(parity[i])
    if len(rows) < d: raise Exception('too many lost shards')
    iv = minv(rows)
    for i in range(d):
        if data[i] is None:
            acc = np.zeros(len(vals[0]), dtype=np.uint8)
            for k in range(d): acc ^= MULT[iv[i][k], vals[k]]
            data[i] = acc
    return data
def ceil(a, b): return -(-a // b)
class ECC:
    def __init__(self, p):
        self.ms = ms = 1024 if p == 1 else 512 if p == 2 else 256 if p == 3 else 128 if p <= 6 else 64
        f32 = np.float32
        free = f32(p) - f32(400) / f32(ms)
        if free < f32(0.01): free = f32(0.01)
        D = 128; P = min(max(int(math.floor(f32(128) * free / f32(100))), 1), 128)
        if P == 1: P = 2; D = min(max(int(math.floor(f32(2) * f32(100) / free)), 128), 254)
        self.D, self.P = D, P
        T1in = 8 * (D + P); self.T1in = T1in; self.T1out = 8 * (4 + ceil(T1in, 6))
        self.T2in = D * ms; self.T2out = (D + P) * (4 + ms)
        self.reconstructed = 0
    def encode(self, inp):
        b = struct.pack('>I', len(inp)) + inp; L = len(b)
        if L <= self.T1in: blocks, d, p, sh, pad = 1, 6, 2, ceil(L, 6), True
        elif L <= self.T2in: blocks, d, p, sh, pad = 1, self.D, self.P, ceil(L, self.D), True
        else: blocks, d, p, sh, pad = ceil(L, self.D * self.ms), self.D, self.P, self.ms, False
        full = b + b'\0' * (blocks * d * sh - L)
        out = b''
        for k in range(blocks):
            S = [np.frombuffer(full[(k * d + i) * sh:(k * d + i + 1) * sh], dtype=np.uint8) for i in range(d)]
            for q in rs_parity(S, p):
                q = q.tobytes(); out += struct.pack('>I', zlib.crc32(q)) + q
        for i in range(blocks * d):
            s = full[i * sh:(i + 1) * sh]
            if not pad and i * sh >= L: break
            out += struct.pack('>I', zlib.crc32(s)) + (s if pad else s[:max(0, min(sh, L - i * sh))])
        return out
    def decode(self, m):
        n = len(m)
        if n <= self.T1out: d, p = 6, 2; sh = max(ceil(n, 8), 5) - 4; blocks = 1
        elif n <= self.T2out: d, p = self.D, self.P; sh = max(ceil(n, d + p), 5) - 4; blocks = 1
        else: d, p, sh = self.D, self.P, self.ms; blocks = ceil(n, (d + p) * (4 + sh))
        pos = 0; par = []
        for i in range(blocks * p):
            c = m[pos:pos + 4]; s = m[pos + 4:pos + 4 + sh]; pos += 4 + sh
            par.append(np.frombuffer(s, dtype=np.uint8) if struct.unpack('>I', c)[0] == zlib.crc32(s) else None)
        dat = []
        for i in range(blocks * d):
            if pos >= n: dat.append(np.zeros(sh, dtype=np.uint8)); continue
            c = m[pos:pos + 4]; s = m[pos + 4:pos + 4 + sh]; pos += 4 + sh
            s = s + b'\0' * (sh - len(s))
            dat.append(np.frombuffer(s, dtype=np.uint8) if struct.unpack('>I', c)[0] == zlib.crc32(s) else None)
        out = []
        for k in range(blocks):
            D = dat[k * d:(k + 1) * d]
            if any(x is None for x in D):
                self.reconstructed += 1
                D = rs_reconstruct(D, par[k * p:(k + 1) * p], d, p)
            out += [x.tobytes() for x in D]
        b = b''.join(out); L = struct.unpack('>I', b[:4])[0]
        if 4 + L > len(b): raise Exception('ecc length')
        return b[4:4 + L]

# ---------- compression (spec 4)
COMP = {0x1000: 'gzip', 0x1001: 'gzip-best-speed', 0x1002: 'gzip-best-compression', 0x1100: 'zstd', 0x1101: 'zstd-fastest',
        0x1102: 'zstd-better-compression', 0x1103: 'zstd-best-compression', 0x1200: 's2-default', 0x1201: 's2-better',
        0x1202: 's2-parallel-4', 0x1203: 's2-parallel-8', 0x1300: 'pgzip', 0x1301: 'pgzip-best-speed', 0x1302: 'pgzip-best-compression',
        0x1400: 'lz4', 0x1500: 'deflate-default', 0x1501: 'deflate-best-speed', 0x1502: 'deflate-best-compression'}
def s2_block(src):
    n = sh = i = 0
    while True:
        b = src[i]; i += 1; n |= (b & 127) << sh; sh += 7
        if b < 128: break
    out = bytearray(); off = 0
    while i < len(src):
        t = src[i]; k = t & 3
        if k == 0:
            l = t >> 2; i += 1
            if l >= 60:
                nb = l - 59; l = int.from_bytes(src[i:i + nb], 'little'); i += nb
            l += 1; out += src[i:i + l]; i += l; continue
        if k == 1:
            o = (t & 0xe0) << 3 | src[i + 1]; l = t >> 2 & 7; i += 2
            if o == 0:
                if l == 5: l = src[i] + 4; i += 1
                elif l == 6: l = int.from_bytes(src[i:i + 2], 'little') + 256; i += 2
                elif l == 7: l = int.from_bytes(src[i:i + 3], 'little') + 65536; i += 3
            else: off = o
            l += 4
        elif k == 2: l = 1 + (t >> 2); off = src[i + 1] | src[i + 2] << 8; i += 3
        else: l = 1 + (t >> 2); off = int.from_bytes(src[i + 1:i + 5], 'little'); i += 5
        assert 0 < off <= len(out)
        for _ in range(l): out.append(out[-off])
    assert len(out) == n, (len(out), n)
    return bytes(out)
def s2_stream(b):
    out = b''; i = 0
    while i < len(b):
        t = b[i]; l = int.from_bytes(b[i + 1:i + 4], 'little'); body = b[i + 4:i + 4 + l]; i += 4 + l
        if t == 0xff: assert body in (b'S2sTwO', b'sNaPpY')
        elif t == 0: out += s2_block(body[4:])
        elif t == 1: out += body[4:]
        elif t < 0x80: raise Exception('chunk %x' % t)
    return out
def decompress(hid, body):
    f = hid & 0xff00
    if f in (0x1000, 0x1300): return gzip.decompress(body)
    if f == 0x1100: return zstandard.ZstdDecompressor().decompressobj().decompress(body)
    if f == 0x1200: return s2_stream(body)
    if f == 0x1400: return lz4.frame.decompress(body)
    if f == 0x1500: return zlib.decompressobj(-15).decompress(body)
    raise Exception('compression %x' % hid)

# ---------- index (spec 6)
class E:  # index entry
    __slots__ = ('key', 'pack', 'off', 'plen', 'olen', 'ts', 'deleted', 'fmt', 'comp', 'kid', 'src')
    def __init__(s, key, pack, off, plen, olen, ts, deleted, fmt, comp=0, kid=0, src=None):
        s.key, s.pack, s.off, s.plen, s.olen, s.ts, s.deleted, s.fmt, s.comp, s.kid, s.src = key, pack, off, plen, olen, ts, deleted, fmt, comp, kid, src
    @property
    def id(s): return (chr(s.key[0]) if s.key[0] else '') + s.key[1:].hex()
    def clone(s, **kw):
        e = E(s.key, s.pack, s.off, s.plen, s.olen, s.ts, s.deleted, s.fmt, s.comp, s.kid, s.src)
        for k, v in kw.items(): setattr(e, k, v)
        return e
    def tup(s): return (s.id, s.pack, s.off, s.plen, s.olen, s.ts, s.deleted, s.fmt, s.comp, s.kid)
def id2key(i): return (i[0].encode() + bytes.fromhex(i[1:])) if len(i) % 2 else b'\0' + bytes.fromhex(i)
def parse_index(b, overhead=28, src=None):
    res = []
    if b[0] == 1:
        _, ks, es, n = struct.unpack('>BBHI', b[:8]); assert es == 20
        for i in range(n):
            p = 8 + i * (ks + es); k = b[p:p + ks]; e = b[p + ks:p + ks + es]
            ts = int.from_bytes(e[:6], 'big'); po, o, l = struct.unpack('>III', e[8:20])
            if overhead is None: raise Exception('V1 index in an ECC repository')
            res.append(E(k, b[po:po + e[7]].decode(), o & 0x7fffffff, l, l - overhead, ts, bool(o >> 31), e[6], src=src))
        return res
    assert b[0] == 2, 'index version %d' % b[0]
    _, ks, es, n, npk, nf, base = struct.unpack('>BBHIIBI', b[:17])
    assert 16 <= es <= 19
    pp = 17 + n * (ks + es); fp = pp + 5 * npk
    packs = []
    for i in range(npk):
        l, o = struct.unpack('>BI', b[pp + 5 * i:pp + 5 * i + 5]); packs.append(b[o:o + l].decode())
    fm = [struct.unpack('>IBB', b[fp + 6 * i:fp + 6 * i + 6]) for i in range(nf)]
    for i in range(n):
        p = 17 + i * (ks + es); k = b[p:p + ks]; e = b[p + ks:p + ks + es]
        ts, o = struct.unpack('>II', e[:8]); ol = int.from_bytes(e[8:11], 'big'); pl = int.from_bytes(e[11:14], 'big'); pn = e[14] << 8 | e[15]
        f = e[16] if es >= 17 else 0
        if es >= 18: pn |= e[17] << 16
        if es >= 19: ol |= (e[18] >> 4) << 24; pl |= (e[18] & 15) << 24
        c, v, kid = fm[f] if f < nf else (0xffff, 0xff, 0xff)
        res.append(E(k, packs[pn] if pn < npk else '---invalid---', o & 0x7fffffff, pl, ol, ts + base, bool(o >> 31), v, c, kid, src))
    return res
def build_v1(entries, tail=False):
    es = sorted(entries, key=lambda e: e.key); ks = len(es[0].key)
    base = 8 + len(es) * (ks + 20); names = {}; extra = b''
    for e in es:
        if e.pack not in names: names[e.pack] = base + len(extra); extra += e.pack.encode()
    out = struct.pack('>BBHI', 1, ks, 20, len(es))
    for e in es:
        out += e.key + e.ts.to_bytes(6, 'big') + bytes([e.fmt, len(e.pack)]) + struct.pack('>III', names[e.pack], e.off | (int(e.deleted) << 31), e.plen)
    return out + extra + (os.urandom(32) if tail else b'')
def build_v2(entries, tail=False, size=None, base=0):
    es = sorted(entries, key=lambda e: e.key); ks = len(es[0].key)
    packs, fmts = {}, {}
    for e in es: packs.setdefault(e.pack, len(packs)); fmts.setdefault((e.comp, e.fmt, e.kid), len(fmts))
    z = 16
    if len(fmts) > 1: z = 17
    if len(packs) > 65536: z = 18
    if any(e.olen >> 24 or e.plen >> 24 for e in es): z = 19
    z = size or z
    out = [struct.pack('>BBHIIBI', 2, ks, z, len(es), len(packs), len(fmts), base)]
    for e in es:
        pn, f = packs[e.pack], fmts[(e.comp, e.fmt, e.kid)]
        x = struct.pack('>II', e.ts - base, e.off | (int(e.deleted) << 31)) + (e.olen & 0xffffff).to_bytes(3, 'big') + (e.plen & 0xffffff).to_bytes(3, 'big') + struct.pack('>H', pn & 0xffff)
        x += bytes([f, pn >> 16, (e.olen >> 24) << 4 | (e.plen >> 24)])
        out.append(e.key + x[:z])
    xp = 17 + len(es) * (ks + z) + 5 * len(packs) + 6 * len(fmts)
    for p in packs: out.append(struct.pack('>BI', len(p), xp)); xp += len(p)
    for f in fmts: out.append(struct.pack('>IBB', *f))
    for p in packs: out.append(p.encode())
    return b''.join(out) + (os.urandom(32) if tail else b'')
def better(a, b):  # spec 7
    if a.ts != b.ts: return a.ts > b.ts
    if a.deleted != b.deleted: return not a.deleted
    return a.pack.encode() > b.pack.encode()
def merge(entries):
    w = {}
    for e in entries:
        o = w.get(e.key)
        if o is None or better(e, o): w[e.key] = e
    return {k: w[k] for k in sorted(w)}
def uvarint(b, i):
    n = s = 0
    while True:
        c = b[i]; i += 1; n |= (c & 127) << s; s += 7
        if c < 128: return n, i
def put_uvarint(n):
    o = b''
    while n >= 128: o += bytes([n & 127 | 128]); n >>= 7
    return o + bytes([n])
def parse_postamble(b):
    l = b[-1]; assert l >= 5
    pl = b[-1 - l:-1]; pay, crc = pl[:-4], struct.unpack('>I', pl[-4:])[0]
    assert zlib.crc32(pay) == crc, 'postamble crc'
    v, i = uvarint(pay, 0); assert v == 1
    n, i = uvarint(pay, i); iv = pay[i:i + n]; i += n
    off, i = uvarint(pay, i); ln, i = uvarint(pay, i); assert i == len(pay)
    return iv, off, ln

# ---------- complete sets, epochs (spec 1.3, 6.7, 6.8)
def set_key(bid):
    p = bid.split('-')
    if len(p) >= 3 and p[1].startswith('s') and p[2].startswith('c'):
        try: return p[1], int(p[2][1:])
        except ValueError: pass
    return bid, 1
def first_complete(ids):
    seen = {}
    for b in ids:
        k, n = set_key(b); seen.setdefault(k, []).append(b)
        if len(seen[k]) == n: return seen[k]
    return None
def ep_num(b):
    s = b.split('_')[0].lstrip('abcdefghijklmnopqrstuvwxyz')
    return int(s) if s.isdigit() else None
class Repo:
    def __init__(self, root, pw=PW):
        self.st = FS(root)
        self.env = json.loads(self.st.get('kopia.repository')); e = self.env
        self.uid = base64.b64decode(e['uniqueID']); self.fk = password_key(e['keyAlgo'], pw, self.uid)
        assert e['encryption'] == 'AES256_GCM'
        self.inner = json.loads(envelope_open(self.fk, self.uid, base64.b64decode(e['encryptedBlockFormat'])))
        f = self.fmt = self.inner['format']
        self.master = base64.b64decode(f['masterKey']); self.secret = base64.b64decode(f.get('secret') or '')
        self.hash = make_hash(f['hash'], self.secret); self.enc = Enc(f['encryption'], self.master)
        self.H = len(self.hash(b''))
        self.ecc = ECC(f['eccOverheadPercent']) if f.get('ecc') and f.get('eccOverheadPercent', 0) > 0 else None
        self.epochs = bool((f.get('epochParameters') or {}).get('Enabled'))
        self.iv = f.get('indexVersion') or 1
        self.root_key = self.master if f.get('enablePasswordChange') else self.fk
        self.maxpack = f.get('maxPackSize') or 20 << 20
        self.overhead = None if self.ecc else 28
    def blobcfg(self):
        if not self.st.exists('kopia.blobcfg'): return None
        d = self.st.get('kopia.blobcfg')
        return json.loads(envelope_open(self.fk, self.uid, d))
    def encrypt(self, pt, iv):
        c = self.enc.encrypt(pt, iv); return self.ecc.encode(c) if self.ecc else c
    def decrypt(self, ct, iv):
        if self.ecc: ct = self.ecc.decode(ct)
        return self.enc.decrypt(ct, iv)
    def name_iv(self, name):
        s = name.split('-')[0]; return bytes.fromhex(s[-32:])
    def get_blob(self, name): return self.decrypt(self.st.get(name), self.name_iv(name))
    def make_blob(self, pt, prefix, suffix=''):
        n = prefix + self.hash(pt).hex() + ('-' + suffix if suffix else '')
        return n, self.encrypt(pt, self.name_iv(n))
    # index sets
    def epoch_state(self):
        L = lambda p: [b for b, _, _ in self.st.list(p)]
        W = max([n for n in map(ep_num, L('xe')) if n is not None] or [0])
        wm = max([int(b[2:]) for b in L('xw') if b[2:].isdigit()] or [None], key=lambda x: x or 0)
        xs, g = {}, {}
        for b in L('xs'):
            if ep_num(b) is not None: g.setdefault(ep_num(b), []).append(b)
        for e, l in g.items():
            c = first_complete(l)
            if c: xs[e] = c
        rg = {}
        for b in L('xr'):
            p = b.split('_')
            if len(p) >= 3 and p[0][2:].isdigit() and p[1].isdigit(): rg.setdefault((int(p[0][2:]), int(p[1])), []).append(b)
        rg = {k: first_complete(v) for k, v in rg.items()}; rg = {k: v for k, v in rg.items() if v}
        best = []
        def rec(start, ch):
            nonlocal best
            if ch:
                if not best or ch[-1][1] > best[-1][1] or (ch[-1][1] == best[-1][1] and len(ch) < len(best)): best = list(ch)
            for k in rg:
                if k[0] == start: rec(k[1] + 1, ch + [k])
        rec(0, [])
        if best and best[-1][1] == 0: best = []
        xn = {}
        for b in L('xn'):
            if ep_num(b) is not None: xn.setdefault(ep_num(b), []).append(b)
        return W, wm, xs, [(k, rg[k]) for k in best], xn
    def active_indexes(self):
        if self.epochs:
            W, wm, xs, chain, xn = self.epoch_state(); self.W, self.wm = W, wm
            start, res = 0, []
            for k, bl in chain:
                if k[1] > start: res += bl; start = k[1] + 1
            for e in range(start, W + 2):
                if e <= W - 2 and e in xs: res += xs[e]
                else: res += xn.get(e, [])
            return res
        self.W = self.wm = None
        n = {b for b, _, _ in self.st.list('n')}
        dead = set()
        for m in [b for b, _, _ in self.st.list('m')]:
            j = json.loads(self.get_blob(m))
            if all(o['id'] in n for o in j.get('outputMetadata') or []): dead |= {i['id'] for i in j.get('inputMetadata') or []}
        return sorted(n - dead)
    def load(self):
        self.active = self.active_indexes(); allE = []
        for b in self.active: allE += parse_index(self.get_blob(b), self.overhead, b)
        self.all = allE; w = merge(allE)
        self.win = {k: e for k, e in w.items() if not (e.deleted and self.wm is not None and e.ts <= self.wm)}
        self.byid = {e.id: e for e in self.win.values()}
        return self.win
    def raw(self, e):
        with open(self.st.path(e.pack), 'rb') as f: f.seek(e.off); return f.read(e.plen)
    def content(self, e, checkhash=True):
        if isinstance(e, str): e = self.byid[e]
        assert e.kid == 0
        pt = self.decrypt(self.raw(e), e.key[1:][-16:])
        if e.comp:
            assert struct.unpack('>I', pt[:4])[0] == e.comp, 'compression header'
            pt = decompress(e.comp, pt[4:])
        assert len(pt) == e.olen, ('originalLength', len(pt), e.olen)
        if checkhash: assert self.hash(pt) == e.key[1:], 'content hash'
        return pt
    # objects
    def obj(self, o):
        if o.startswith('I'):
            j = json.loads(self.obj(o[1:])); assert j['stream'] == 'kopia:indirect'
            parts, n, memo = [], 0, {}
            for en in j['entries']:
                assert en.get('s', 0) == n
                d = memo.get(en['o'])
                if d is None: d = memo[en['o']] = self.obj(en['o'])
                assert len(d) == en.get('l', 0); parts.append(d); n += len(d)
            return b''.join(parts)
        z = o.startswith('Z'); o = o[1:] if z else o
        if o.startswith('D'): o = o[1:]
        d = self.content(o)
        if z: d = decompress(struct.unpack('>I', d[:4])[0], d[4:])
        return d
    def obj_contents(self, o):
        if o.startswith('I'):
            r = self.obj_contents(o[1:])
            for en in json.loads(self.obj(o[1:]))['entries']: r += self.obj_contents(en['o'])
            return r
        return [o.lstrip('ZD')]
    def manifests(self, live=True):
        m = {}
        for e in self.win.values():
            if e.key[:1] != b'm' or e.deleted: continue
            for x in json.loads(gzip.decompress(self.content(e)))['entries']:
                o = m.get(x['id'])
                if o is None or ptime(x['modified']) > ptime(o['modified']): m[x['id']] = x
        return {k: v for k, v in m.items() if not (live and v.get('deleted'))}
    def walk(self):
        used, seen, out = set(), set(), []
        def proc(en, path):
            o = en['obj']
            if en['type'] != 'd': out.append((path, o))
            if o in seen: return
            seen.add(o); used.update(self.obj_contents(o))
            if en['type'] == 'd':
                j = json.loads(self.obj(o)); assert j['stream'] == 'kopia:directory'
                for c in j.get('entries') or []: proc(c, path + '/' + c['name'])
        for mid, m in self.manifests().items():
            if m['labels']['type'] == 'snapshot': proc(m['data']['rootEntry'], mid)
        return used, out
    # schedule
    def sched_key(self): return hkdf(self.root_key, self.uid, b'maintenance schedule', 32)
    def schedule(self):
        if not self.st.exists('kopia.maintenance'): return None
        b = self.st.get('kopia.maintenance'); return json.loads(AESGCM(self.sched_key()).decrypt(b[:12], b[12:], b'maintenance'))
    def put_schedule(self, j):
        n = os.urandom(12); self.st.put('kopia.maintenance', n + AESGCM(self.sched_key()).encrypt(n, json.dumps(j).encode(), b'maintenance'))
    # writers
    def put_index(self, entries, version=None, session=None, epoch=None):
        pt = (build_v1 if (version or self.iv) == 1 else build_v2)(entries)
        sid = session or new_session()
        if self.epochs:
            n, ct = self.make_blob(pt, '', sid + '-c1'); n = 'xn%d_%s' % (self.W if epoch is None else epoch, n)
        else: n, ct = self.make_blob(pt, 'n', sid)
        self.st.put(n, ct); return n
    def build_pack(self, moves, prefix, session=None):
        """moves = [(entry, ciphertext)]; returns name, bytes, new entries"""
        name = prefix + os.urandom(16).hex() + '-' + (session or new_session())
        b = b''
        if not self.fmt.get('enablePasswordChange'):
            r = self.st.get('kopia.repository'); l = struct.pack('<H', len(r) + 32)
            b += l + r + hmac.new(b'kopia-repository', r, hashlib.sha256).digest() + l
        b += os.urandom(32); ne = []
        for e, ct in moves: ne.append(e.clone(pack=name, off=len(b), ts=e.ts + 1)); b += ct
        b += os.urandom(4096 - len(b) % 4096)
        li = (build_v1 if self.iv == 1 else build_v2)(ne, tail=True); h = self.hash(li); ct = self.encrypt(li, h)
        pay = put_uvarint(1) + put_uvarint(len(h)) + h + put_uvarint(len(b)) + put_uvarint(len(ct))
        b += ct; pc = pay + struct.pack('>I', zlib.crc32(pay))
        return name, b + pc + bytes([len(pc)]), ne
    def local_index(self, pack):
        b = self.st.get(pack); iv, o, l = parse_postamble(b)
        li = self.decrypt(b[o:o + l], iv)
        assert self.hash(li) == iv, 'local index hash'
        pc = b[-1] + 1
        return o, l, len(b) - pc, parse_index(li, self.overhead), b
def ptime(s):
    m = re.match(r'(.*?)(\.\d+)?(Z|[+-]\d\d:\d\d)$', s)
    t = datetime.datetime.fromisoformat(m.group(1) + (m.group(3) if m.group(3) != 'Z' else '+00:00'))
    return (t.timestamp(), int((m.group(2) or '.0')[1:].ljust(9, '0')))
def months(): return '%x' % int((time.time() - 946684800) // (30 * 86400))
def new_session(): return 's' + os.urandom(8).hex() + months()

def main():
    args = [a for a in sys.argv[1:] if not a.startswith('--')]; opts = [a for a in sys.argv[1:] if a.startswith('--')]
    pw = PW
    for o in opts:
        if o.startswith('--password='): pw = o[11:]
    if len(args) < 2: print(__doc__); return
    r = Repo(args[0], pw); c = args[1]
    if c == 'format': print(json.dumps({'envelope': {k: v for k, v in r.env.items() if k != 'encryptedBlockFormat'}, 'format': r.fmt, 'blobcfg': r.blobcfg()}, indent=1))
    elif c == 'blobs':
        for b, l, t in sorted(r.st.list()): print(b, l, int(t))
    elif c == 'maintenance': print(json.dumps(r.schedule(), indent=1))
    elif c == 'inspect':
        for e in parse_index(r.get_blob(args[2]), r.overhead): print(*e.tup())
    elif c == 'recover':
        o, l, end, es, b = r.local_index(args[2]); print('local index at', o, 'len', l, 'ends', end)
        for e in es: print(*e.tup())
    elif c == 'sessions':
        for b, _, _ in r.st.list('s'): print(b, r.get_blob(b).decode())
    elif c == 'logs':
        for b, _, _ in sorted(r.st.list('_log_')): d = gzip.decompress(r.get_blob(b)); print(b, len(d), d.count(b'\n'), d[:100])
    elif c == 'epochs': print(*r.epoch_state(), sep='\n')
    elif c == 'v0log':
        for p in 'ml':
            for b, _, _ in r.st.list(p): print(b, r.get_blob(b).decode())
    else:
        r.load()
        if c == 'status': print(json.dumps({'keyAlgo': r.env['keyAlgo'], 'hash': r.fmt['hash'], 'encryption': r.fmt['encryption'], 'ecc': r.ecc and [r.ecc.ms, r.ecc.D, r.ecc.P], 'version': r.fmt['version'], 'indexVersion': r.iv, 'epochs': r.epochs, 'writeEpoch': r.W, 'watermark': r.wm, 'active': len(r.active), 'contents': len(r.win), 'deleted': sum(e.deleted for e in r.win.values())}))
        elif c == 'indexes': print(*sorted(r.active), sep='\n')
        elif c == 'contents':
            for e in r.win.values():
                if not e.deleted or '--deleted' in opts: print(*e.tup())
        elif c == 'content': sys.stdout.buffer.write(r.content(args[2]))
        elif c == 'object': sys.stdout.buffer.write(r.obj(args[2]))
        elif c == 'manifests': print(json.dumps(list(r.manifests().values()), indent=1))
        elif c == 'walk':
            u, o = r.walk(); print(len(u), 'contents in use'); [print(*x) for x in o]
        elif c == 'packs':
            for b in sorted([b for p in 'pq' for b, _, _ in r.st.list(p)]):
                o, l, end, es, d = r.local_index(b); print(b, len(d), 'localIndex', o, l, 'tail ok' if end == o + l else 'TAIL %d' % (end - o - l), len(es), 'entries')
        elif c == 'verify':
            n = 0
            for e in r.win.values(): r.content(e); n += 1
            u, o = r.walk(); miss = [x for x in u if x not in r.byid]
            print('ok', n, 'contents decoded and hashed;', len(u), 'in use;', len(miss), 'missing;', sum(r.byid[x].deleted for x in u if x in r.byid), 'in use but deleted')
        else: print(__doc__)
if __name__ == '__main__': main()
