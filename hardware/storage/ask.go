package storage

import (
	"context"
	"errors"
	"io/fs"
	"sync/atomic"

	"github.com/ingot-metal/ingot/hardware/storage/passthru"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// questions are put to one drive, whose node is opened for the first of them.
type questions struct {
	ctx  context.Context
	root sysfs.Root
	kind string // nvme, ata, scsi
	node string // nvme0, sda
	dev  *passthru.Device
	// refused is why the node was not opened; no question follows.
	refused error
	last    atomic.Pointer[string] // the question that is being asked
}

func (q *questions) close() {
	if q.dev != nil {
		_ = q.dev.Close() // nothing was written
	}
}

// current is the question that the drive was asked last.
func (q *questions) current() string {
	if s := q.last.Load(); s != nil {
		return *s
	}
	return "sysfs"
}

// ask puts one question. Its answer has at most so many bytes. A drive that
// does not know the question answers with an error, which says nothing bad
// about it.
func (q *questions) ask(question string, most int64, live func(passthru.Device) ([]byte, error)) ([]byte, error) {
	name := q.kind + "/" + q.node + "/" + question
	q.last.Store(&name)
	if err := q.ctx.Err(); err != nil {
		return nil, err
	}
	return q.root.Ask(q.ctx, name, most, func() ([]byte, error) {
		if q.refused != nil {
			return nil, q.refused
		}
		if q.dev == nil {
			d, err := passthru.Open(q.root.Path("dev", q.node))
			if err != nil {
				q.refused = err
				return nil, err
			}
			q.dev = &d
		}
		b, err := live(*q.dev)
		if errors.Is(err, fs.ErrPermission) { // a node that may be opened is not one that may be asked
			q.refused = err
		}
		return b, err
	})
}
