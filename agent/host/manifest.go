package host

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Paths that images/initramfs writes; its own constants would bring its
// builder into the agent. A test compares them.
const (
	manifestPath = "/etc/ingot/manifest"
	builtPath    = "/etc/ingot/built"
	modulesRoot  = "/lib/modules"
)

// CheckInitramfs compares the files that are there with the list that the
// initramfs was built with. A kernel that runs out of memory while it unpacks
// boots on with what it has, and the loss would show much later as a driver
// that does not load. The error names the first few files and their number.
func CheckInitramfs() error {
	f, err := os.Open(manifestPath)
	if err != nil {
		return fmt.Errorf("check initramfs: %w", err)
	}
	defer f.Close()
	if err := checkManifest(f, "/"); err != nil {
		return fmt.Errorf("check initramfs: %w", err)
	}
	return nil
}

func checkManifest(list io.Reader, root string) error {
	var bad []string
	files := 0
	sc := bufio.NewScanner(list)
	for sc.Scan() {
		size, name, ok := strings.Cut(sc.Text(), " ")
		want, err := strconv.ParseInt(size, 10, 64)
		if !ok || err != nil {
			return fmt.Errorf("line %.60q of the list is not \"<size> <path>\"", sc.Text())
		}
		files++
		st, err := os.Lstat(filepath.Join(root, name))
		switch {
		case err != nil:
			bad = append(bad, name+" is missing")
		case st.Size() != want:
			bad = append(bad, fmt.Sprintf("%s has %d of %d bytes", name, st.Size(), want))
		}
	}
	if err := sc.Err(); err != nil {
		return err
	}
	if files == 0 {
		return fmt.Errorf("the list is empty")
	}
	if len(bad) > 0 {
		return fmt.Errorf("%d of %d files are not whole (too little memory?): %s", len(bad), files, strings.Join(bad[:min(3, len(bad))], ", "))
	}
	return nil
}
