package serve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// What the disk of a data directory must have free: for the bus to start, and
// for it to go on. A stream that runs out of room midway is worse than none.
const (
	freeToStart = 64 << 20
	freeToGoOn  = 16 << 20
	roomPoll    = 2 * time.Second
)

// checkWritable writes a file into a directory, and looks that there is room.
func checkWritable(dir string) error {
	probe, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return err
	}
	if err := errors.Join(probe.Close(), os.Remove(probe.Name())); err != nil {
		return err
	}
	return checkRoom(dir, freeToStart)
}

func checkRoom(dir string, least int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("look at the disk of %s: %w", dir, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < least {
		return fmt.Errorf("%s has %d KiB free, at least %d are wanted: %w", dir, free>>10, least>>10, unix.ENOSPC)
	}
	return nil
}

// watchRoom ends with an error before the disk is full, while all that the bus
// has acknowledged is whole.
func watchRoom(ctx context.Context, dir string) error {
	tick := time.NewTicker(roomPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := checkRoom(dir, freeToGoOn); err != nil {
				return fmt.Errorf("stop before the disk is full: %w", err)
			}
		}
	}
}
