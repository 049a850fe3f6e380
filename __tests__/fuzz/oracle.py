"""Says what the official safetensors package makes of files: reads them from stdin, each behind its length (u32, little-endian), and answers on stdout
likewise with JSON: {"refused": why} or {"metadata": {...}, "tensors": [[name, dtype, shape, bytes, crc32 of the bytes], ...]}. The first answer, unasked,
is the package's version.

The verdict and the tensors are `deserialize`'s, the metadata `safe_open`'s, which reads a file: where the two disagree the answer says so.
"""
import json
import os
import struct
import sys
import tempfile
import zlib


def answer(value):
    text = json.dumps(value).encode()
    sys.stdout.buffer.write(struct.pack('<I', len(text)) + text)
    sys.stdout.buffer.flush()


def judge(data, path):
    try:
        tensors = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        return {'refused': str(error)}
    with open(path, 'wb') as file:
        file.write(data)
    with safetensors.safe_open(path, framework='numpy') as opened:
        if sorted(opened.keys()) != sorted(name for name, _ in tensors):
            raise AssertionError('safe_open and deserialize name different tensors')
        metadata = opened.metadata()
    listed = [[name, info['dtype'], info['shape'], len(info['data']), zlib.crc32(info['data'])] for name, info in tensors]
    return {'metadata': metadata or {}, 'tensors': listed}


try:
    import safetensors
except ImportError:
    answer({'missing': 'safetensors'})
    sys.exit(1)

answer({'version': safetensors.__version__})
memory = '/dev/shm' if os.path.isdir('/dev/shm') else None
with tempfile.TemporaryDirectory(dir=memory) as folder:
    while prefix := sys.stdin.buffer.read(4):
        answer(judge(sys.stdin.buffer.read(struct.unpack('<I', prefix)[0]), os.path.join(folder, 'file.safetensors')))
