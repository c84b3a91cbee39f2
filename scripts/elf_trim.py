"""Takes from an ELF library what no loader ever looks at: everything behind its last segment.

The dynamic loader reads the ELF header, the program headers and the segments that these name.
Sections, debugging symbols among them, are for linkers and debuggers, and lie behind the segments
in libraries as compilers write them. Cutting the file there, and saying in the header that there
are no sections, needs no tool of the target machine, so that a library for aarch64 can be trimmed
anywhere, to the same bytes. Source: System V ABI, "Object Files" and "Program Loading"; the
header's layout is that of ELF64, little-endian.
"""

import struct
from typing import Final

_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER: Final = struct.Struct("<IIQQQQQQ")
_ELF64_LITTLE_ENDIAN: Final = b"\x7fELF\x02\x01"


def trimmed(library: bytes) -> bytes:
    """Return the library without what lies behind its last segment.

    What is not ELF64 comes back as it is; a library whose segments reach to the end of the file
    only loses the mention of its sections.
    """
    if not library.startswith(_ELF64_LITTLE_ENDIAN):
        return library
    fields = list(_HEADER.unpack_from(library))
    headers_at, header_size, headers = fields[5], fields[9], fields[10]
    end = headers_at + header_size * headers
    for index in range(headers):
        header = _PROGRAM_HEADER.unpack_from(library, headers_at + index * header_size)
        offset, file_size = header[2], header[5]
        end = max(end, offset + file_size)
    fields[6] = 0  # e_shoff: where the section headers are.
    fields[12] = 0  # e_shnum: how many there are.
    fields[13] = 0  # e_shstrndx: which of them holds their names.
    return _HEADER.pack(*fields) + library[_HEADER.size : end]
