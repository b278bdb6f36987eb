// Package host is what the agent does as the first process of a machine: it
// mounts what the kernel offers, finds drivers for the hardware, brings up a
// network and a clock, speaks on every console, and reaps.
//
// The order, and what may run at the same time:
//
//	Setup          mounts, consoles, environment
//	CheckInitramfs are all files there, whole
//	OpenModules    the index that images/initramfs wrote
//	├ Autoload     drivers for what the buses show, NICs first
//	│ └ Watch      … and for what is plugged in later
//	├ NetworkUp    DHCP on every NIC with a carrier; the first lease wins
//	│ └ Keep       … renewed while the agent waits
//	└ OpenClock    RTC, else the image's build time
//
// In an emulated machine of two slow processors the lease is there 0.6 s after
// /init and the last driver 1.2 s; one driver takes 40 to 400 ms there.
//
// Nothing here gives up for good: a machine without a network says what it
// waits for and goes on trying, since nobody stands beside it.
package host
