package lab

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) {
	MaybeInit()
	if name := os.Getenv(holdVariable); name != "" {
		os.Exit(hold(name))
	}
	os.Exit(m.Run())
}

// holdVariable makes the test binary a process that holds a lab, for tests
// that kill it.
const holdVariable = "INGOT_LAB_HOLD"

func hold(name string) int {
	l, err := Up(context.Background(), Options{Name: name, Tools: os.Getenv("INGOT_TOOLS"), SkipDoctor: true})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("up", l.pid)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	select {
	case <-signals:
		err = l.Close()
	case <-l.Done():
		err = l.Wait()
	}
	fmt.Println("end", err)
	if err != nil {
		return 1
	}
	return 0
}

// testTools finds the unpacked tools; a test that needs them skips without,
// and in CI, where they are made first, it fails.
func testTools(t *testing.T) tools {
	t.Helper()
	dir := os.Getenv("INGOT_TOOLS")
	if dir == "" {
		dir = filepath.Join("..", "..", "build", "tools")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := tools(dir).check(); err != nil {
		missing(t, err)
	}
	return tools(dir)
}

// missing skips a test for what the machine lacks.
func missing(t *testing.T, what error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("missing in CI: %v", what)
	}
	t.Skipf("missing: %v", what)
}
