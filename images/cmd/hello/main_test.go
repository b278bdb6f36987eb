package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func bootIDFileWith(t *testing.T, id string) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "boot_id")
	if err := os.WriteFile(f, []byte(id+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAnswerNamesEveryLayer(t *testing.T) {
	env := map[string]string{
		"INGOT_SERVICE": "hello", "INGOT_CONTAINER_ID": "c1", "INGOT_IMAGE_DIGEST": "sha256:12",
		"INGOT_VM": "vm0", "INGOT_HYPERVISOR": "kvm", "INGOT_HYPERVISOR_BOOT_ID": "hv-boot",
		"INGOT_NODE": "n-1", "INGOT_NAME": "r1u2", "INGOT_RACK": "r1", "INGOT_UNIT": "2", "INGOT_NONCE": "abc",
		"INGOT_STACK": "first-light:1", "INGOT_STACK_DIGEST": "sha256:34",
	}
	a, err := newAnswer(func(k string) string { return env[k] }, bootIDFileWith(t, "vm-boot"))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(handler(a))
	defer s.Close()
	res, err := http.Get(s.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var got map[string]any
	if err := json.NewDecoder(res.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"service": "hello", "container_id": "c1", "image_digest": "sha256:12", "vm": "vm0", "vm_boot_id": "vm-boot",
		"hypervisor": "kvm", "hypervisor_boot_id": "hv-boot", "node": "n-1", "name": "r1u2", "rack": "r1", "unit": 2.0,
		"nonce": "abc", "stack": "first-light:1", "stack_digest": "sha256:34",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("answer (-want +got):\n%s", d)
	}
}

func TestPaths(t *testing.T) {
	s := httptest.NewServer(handler(answer{}))
	defer s.Close()
	for path, want := range map[string]int{"/": 200, "/healthz": 200, "/other": 404} {
		res, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Error(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("GET %s = %d; want %d", path, res.StatusCode, want)
		}
	}
}

func TestUnitThatIsNoNumberIsRefused(t *testing.T) {
	env := func(k string) string { return map[string]string{"INGOT_UNIT": "top"}[k] }
	if _, err := newAnswer(env, bootIDFileWith(t, "x")); err == nil {
		t.Error("INGOT_UNIT=top was taken")
	}
}
