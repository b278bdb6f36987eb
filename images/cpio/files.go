package cpio

import (
	"bytes"
	"io/fs"
)

// File is a small file that stands in memory.
type File struct {
	Name string
	Perm fs.FileMode // zero means 0644
	Data []byte
}

// Archive is a whole archive of small files, in the order given, uncompressed.
// A boot loader may append it to another initramfs, packed or not.
func Archive(files ...File) ([]byte, error) {
	var b bytes.Buffer
	w := NewWriter(&b)
	for _, f := range files {
		perm := f.Perm
		if perm == 0 {
			perm = 0o644
		}
		if err := w.Bytes(f.Name, perm, f.Data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
