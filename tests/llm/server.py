"""A real language model server for tests: llama.cpp's own HTTP server, with a model made of noise.

    python server.py [--parallel N] [--context TOKENS]

Writes a random two-layer llama as GGUF (about half a MiB), serves it on a free loopback port, prints
`LISTENING http://127.0.0.1:PORT` on standard output and runs until standard input ends, at most ten
minutes. What the model says is nonsense; the protocol, the streaming, the timing and the token counts
are llama.cpp's.

Needs: pip install xllamacpp gguf numpy
"""

import argparse
import os
import sys
import tempfile
import threading

import gguf
import numpy
import xllamacpp

HARD_LIMIT_SECONDS = 600

EMBEDDING = 64
HEADS = 4
FEED_FORWARD = 128
LAYERS = 2
WORDS = ["the", "a", "is", "bot", "task", "queue", "answer", "four", "two", "of", "and", "to"]
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"


def vocabulary():
    """Byte-level SentencePiece: any text can be read and written, a few words are one token."""
    kinds = gguf.TokenType
    tokens = [(b"<unk>", 0.0, kinds.UNKNOWN), (b"<s>", 0.0, kinds.CONTROL), (b"</s>", 0.0, kinds.CONTROL)]
    tokens += [(f"<0x{byte:02X}>".encode(), 0.0, kinds.BYTE) for byte in range(256)]
    # U+2581 stands for the space before a word.
    tokens += [(f"\u2581{word}".encode(), -float(n), kinds.NORMAL) for n, word in enumerate(WORDS)]
    return tokens


def write_model(path, context):
    """A llama whose weights are noise, the same at every start."""
    tokens = vocabulary()
    random = numpy.random.default_rng(7)

    def noise(*shape):
        return (random.standard_normal(shape) * 0.08).astype(numpy.float32)

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("noise")
    writer.add_context_length(context)
    writer.add_embedding_length(EMBEDDING)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(EMBEDDING // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _, _ in tokens])
    writer.add_token_scores([score for _, score, _ in tokens])
    writer.add_token_types([kind for _, _, kind in tokens])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)

    ones = numpy.ones(EMBEDDING, dtype=numpy.float32)
    writer.add_tensor("token_embd.weight", noise(len(tokens), EMBEDDING))
    for layer in range(LAYERS):
        name = f"blk.{layer}"
        writer.add_tensor(f"{name}.attn_norm.weight", ones)
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"{name}.{part}.weight", noise(EMBEDDING, EMBEDDING))
        writer.add_tensor(f"{name}.ffn_norm.weight", ones)
        writer.add_tensor(f"{name}.ffn_gate.weight", noise(FEED_FORWARD, EMBEDDING))
        writer.add_tensor(f"{name}.ffn_up.weight", noise(FEED_FORWARD, EMBEDDING))
        writer.add_tensor(f"{name}.ffn_down.weight", noise(EMBEDDING, FEED_FORWARD))
    writer.add_tensor("output_norm.weight", ones)
    writer.add_tensor("output.weight", noise(len(tokens), EMBEDDING))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def serve(path, parallel, context):
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_parallel = parallel
    # llama.cpp divides it among the parallel requests.
    params.n_ctx = context * parallel
    params.n_gpu_layers = 0
    params.warmup = False
    params.offline = True
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    return xllamacpp.Server(params)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parallel", type=int, default=4, help="requests at once (default 4)")
    parser.add_argument("--context", type=int, default=2048, help="tokens per request (default 2048)")
    args = parser.parse_args()

    # A test that was killed closes no pipe that others hold: then this is what ends it.
    watchdog = threading.Timer(HARD_LIMIT_SECONDS, os._exit, [3])
    watchdog.daemon = True
    watchdog.start()

    with tempfile.TemporaryDirectory(prefix="deia-llm-") as directory:
        path = os.path.join(directory, "noise.gguf")
        write_model(path, args.context)
        server = serve(path, args.parallel, args.context)
        print(f"LISTENING {server.listening_address}", flush=True)
        while sys.stdin.buffer.read(4096):
            pass
    sys.stdout.flush()
    # llama.cpp's threads may not all end in good time, and nothing is left to save.
    os._exit(0)


if __name__ == "__main__":
    main()
