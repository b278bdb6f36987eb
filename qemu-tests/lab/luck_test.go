package lab

import "testing"

// TestServeKilled kills the stand-in for `ingot serve` and starts it again over
// what it left.
func TestServeKilled(t *testing.T) {
	l := testLab(t, Options{Serve: []string{"/proc/self/exe", plainServeArg}})
	for _, kill := range []bool{true, true, false, false} { // what is so already is no error
		if err := SwitchServe(t.Context(), l.name, kill); err != nil {
			t.Fatalf("kill %t: %v", kill, err)
		}
		st, err := Status(t.Context(), l.name)
		if err != nil {
			t.Fatal(err)
		}
		if st.Serve.Running == kill {
			t.Errorf("after kill %t: serve = %+v", kill, st.Serve)
		}
		if c, err := Context(t.Context(), l.name); err != nil || (len(c.Serve) == 0) != kill {
			t.Errorf("after kill %t: context = %s, %v", kill, c.Serve, err)
		}
	}
	without := testLab(t, Options{Name: l.name + "-without"})
	if err := SwitchServe(t.Context(), without.name, true); err == nil {
		t.Error("a lab without serve has killed one")
	}
}

// TestMains cuts the power of a server and gives it back.
func TestMains(t *testing.T) {
	l := testLab(t, Options{})
	for _, cut := range []bool{false, false, true, true, false} {
		if err := SwitchMains(t.Context(), l.name, "r1u1", cut); err != nil {
			t.Fatalf("cut %t: %v", cut, err)
		}
		if got, want := serverStatus(t, l.name, "r1u1").Power, map[bool]string{true: "off", false: "on"}[cut]; got != want {
			t.Errorf("after cut %t: power is %s; want %s", cut, got, want)
		}
	}
	if err := SwitchMains(t.Context(), l.name, "r9u9", true); err == nil {
		t.Error("mains of a server that is not there = nil; want an error")
	}
}
