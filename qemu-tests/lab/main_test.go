package lab

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMain(m *testing.M) {
	MaybeInit()
	os.Exit(m.Run())
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
