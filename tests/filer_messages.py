"""Messages of SeaweedFS 4.48's webhook, as captured from `weed mini`, without the parts that nobody reads."""

import base64
import json
from typing import Any

Message = dict[str, Any]


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def entry(name: str, **changes: Any) -> dict[str, Any]:
    """A file's entry. `changes`: any of its members; `extended` values as plain text."""
    made = {
        "name": name,
        "chunks": [
            {
                "size": 5,
                "modified_ts_ns": 1795471741980298852,
                "e_tag": "XUFAKrxLKna5cZ2REBfFkg==",
                "fid": {"volume_id": 1, "file_key": 1, "cookie": 216437737},
            }
        ],
        "attributes": {
            "file_size": 5,
            "mtime": 1795471741,
            "file_mode": 432,
            "mime": "text/plain; charset=utf-8",
            "md5": "XUFAKrxLKna5cZ2REBfFkg==",
            "ctime": 1795471741,
        },
        "extended": {"Seaweed-X-Amz-ETag": "5d41402abc4b2a76b9719d911017c592", "Seaweed-X-Amz-Owner": "admin"},
    } | changes
    made["extended"] = {key: b64(value) for key, value in made["extended"].items()}
    return made


def message(kind: str, path: str, *, old: Any = None, new: Any = None) -> Message:
    content: dict[str, Any] = {"signatures": [-1546305055]}
    if old is not None:
        content["old_entry"] = old
    if new is not None:
        content |= {"new_entry": new, "delete_chunks": True, "new_parent_path": path.rpartition("/")[0]}
    return {"event_type": kind, "key": path, "message": content}


def created(path: str, **changes: Any) -> Message:
    """A new object."""
    return message("create", path, new=entry(path.rpartition("/")[2], **changes))


def body(sent: Message) -> bytes:
    return json.dumps(sent, ensure_ascii=False).encode()


def folder(path: str, **changes: Any) -> Message:
    made = {
        "name": path.rpartition("/")[2],
        "is_directory": True,
        "attributes": {"mtime": 1795471741, "file_mode": 2147484153, "mtime_ns": 980764551},
    } | changes
    return message("create", path, new=made)
