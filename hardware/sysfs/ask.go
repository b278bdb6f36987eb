package sysfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// Answers is the directory of a recorded tree that holds what the kernel and
// the devices answered to questions that no file of sysfs answers: ioctls,
// netlink. Their names are reader/device/question: nvme/nvme0/identify.
const Answers = "answers"

// Recorder is told every answer of the running system.
type Recorder func(name string, answer []byte)

type recorderKey struct{}

// WithRecorder makes [Root.Ask] tell each answer to r, which readers call side
// by side.
func WithRecorder(ctx context.Context, r Recorder) context.Context {
	return context.WithValue(ctx, recorderKey{}, r)
}

// ErrNotRecorded says that a recorded tree lacks an answer.
var ErrNotRecorded = errors.New("not recorded")

// Ask is the answer to one question: on the running system what live gives,
// below another root what was recorded of at most so many bytes.
func (r Root) Ask(ctx context.Context, name string, most int64, live func() ([]byte, error)) ([]byte, error) {
	if !r.Live() {
		if !filepath.IsLocal(name) {
			return nil, fmt.Errorf("ask %q: %w", name, ErrNotRecorded)
		}
		b, err := r.Bytes(most, Answers, name)
		if errors.Is(err, fs.ErrNotExist) {
			err = ErrNotRecorded
		}
		return b, err
	}
	b, err := live()
	if record, ok := ctx.Value(recorderKey{}).(Recorder); ok && err == nil {
		record(name, b)
	}
	return b, err
}
