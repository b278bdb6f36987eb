package bmc

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

const (
	chassisPath  = redfishRoot + "/Chassis/1"
	managerPath  = redfishRoot + "/Managers/1"
	sessionsPath = redfishRoot + "/SessionService/Sessions"
)

func link(path string) object { return object{"@odata.id": path} }

func healthy() object { return object{"State": "Enabled", "Health": "OK"} }

func formatUUID(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// resources is the whole tree but for the single sessions.
func (b *BMC) resources() map[string]resource {
	tree := map[string]resource{
		"/redfish":                      {get: func() object { return object{"v1": redfishRoot + "/"} }, open: true},
		redfishRoot:                     {get: b.serviceRoot, open: true},
		redfishRoot + "/SessionService": {get: b.sessionService},
		sessionsPath:                    {get: b.sessionList, post: b.createSession, login: true},
		systemPath:                      {get: b.system, patch: b.patchSystem},
		systemPath + "/Actions/ComputerSystem.Reset": {post: b.resetSystem},
		chassisPath: {get: b.chassis},
		managerPath: {get: b.manager},
	}
	collection(tree, redfishRoot+"/Systems", "ComputerSystem", []string{systemPath})
	collection(tree, redfishRoot+"/Chassis", "Chassis", []string{chassisPath})
	collection(tree, redfishRoot+"/Managers", "Manager", []string{managerPath})
	b.parts(tree)
	return tree
}

func collection(tree map[string]resource, path, kind string, members []string) {
	links := make([]object, 0, len(members))
	for _, m := range members {
		links = append(links, link(m))
	}
	tree[path] = resource{get: func() object {
		return object{
			"@odata.id": path, "@odata.type": "#" + kind + "Collection." + kind + "Collection", "Name": kind + " Collection",
			"Members": links, "Members@odata.count": len(links),
		}
	}}
}

// part adds one resource that never changes, and returns its path.
func part(tree map[string]resource, under, id, version, name string, body object) string {
	path := under + "/" + id
	kind, _, _ := strings.Cut(version, ".")
	body["@odata.id"], body["@odata.type"], body["Id"], body["Name"] = path, "#"+version+"."+kind, id, name
	tree[path] = resource{get: func() object { return body }}
	return path
}

// parts adds what the machine is made of.
func (b *BMC) parts(tree map[string]resource) {
	m := &b.cfg.Machine
	var cpus, dimms, nics []string
	for i, c := range m.CPUs {
		cpus = append(cpus, part(tree, systemPath+"/Processors", strconv.Itoa(i+1), "Processor.v1_20_0", c.Socket, object{
			"Socket": c.Socket, "ProcessorType": "CPU", "ProcessorArchitecture": "x86", "InstructionSet": "x86-64",
			"Manufacturer": c.Manufacturer, "Model": c.Model, "TotalCores": c.Cores, "TotalThreads": c.Threads, "Status": healthy(),
		}))
	}
	for i, d := range m.DIMMs {
		dimms = append(dimms, part(tree, systemPath+"/Memory", strconv.Itoa(i+1), "Memory.v1_20_0", d.Slot, object{
			"DeviceLocator": d.Slot, "BankLocator": d.Bank, "MemoryType": "DRAM", "MemoryDeviceType": d.Type, "BaseModuleType": "RDIMM",
			"CapacityMiB": d.SizeBytes >> 20, "OperatingSpeedMhz": d.SpeedMTs, "Manufacturer": d.Manufacturer,
			"PartNumber": d.PartNumber, "SerialNumber": d.Serial, "Status": healthy(),
		}))
	}
	for i, n := range m.NICs {
		nics = append(nics, part(tree, systemPath+"/EthernetInterfaces", strconv.Itoa(i+1), "EthernetInterface.v1_12_0", n.Name, object{
			"MACAddress": n.MAC.String(), "PermanentMACAddress": n.MAC.String(), "SpeedMbps": n.LinkMbps, "FullDuplex": true,
			"InterfaceEnabled": true, "LinkStatus": "LinkUp", "Status": healthy(),
		}))
	}
	collection(tree, systemPath+"/Processors", "Processor", cpus)
	collection(tree, systemPath+"/Memory", "Memory", dimms)
	collection(tree, systemPath+"/EthernetInterfaces", "EthernetInterface", nics)
	b.storage(tree)
	b.managerNIC(tree)
}

func (b *BMC) storage(tree map[string]resource) {
	const under = systemPath + "/Storage"
	var drives []object
	for i, d := range b.cfg.Machine.Drives {
		drives = append(drives, link(part(tree, under+"/1/Drives", strconv.Itoa(i+1), "Drive.v1_20_0", d.Slot, object{
			"Manufacturer": b.cfg.Machine.Manufacturer, "Model": d.Model, "SerialNumber": d.Serial, "CapacityBytes": d.SizeBytes,
			"Protocol": d.Protocol, "MediaType": d.Media, "BlockSizeBytes": 512, "Status": healthy(),
			"PhysicalLocation": object{"PartLocation": object{"ServiceLabel": d.Slot, "LocationType": "Bay"}},
		})))
	}
	controller := part(tree, under, "1", "Storage.v1_17_0", "Storage", object{
		"Drives": drives, "Drives@odata.count": len(drives), "Status": healthy(),
	})
	collection(tree, under, "Storage", []string{controller})
}

func (b *BMC) managerNIC(tree map[string]resource) {
	const under = managerPath + "/EthernetInterfaces"
	c := &b.cfg.Machine.Controller
	address := object{"Address": c.Address.Addr().String(), "SubnetMask": subnetMask(c.Address.Bits()), "AddressOrigin": "Static"}
	if c.Gateway.IsValid() {
		address["Gateway"] = c.Gateway.String()
	}
	path := part(tree, under, "1", "EthernetInterface.v1_12_0", "Dedicated port", object{
		"MACAddress": c.MAC.String(), "PermanentMACAddress": c.MAC.String(), "InterfaceEnabled": true, "LinkStatus": "LinkUp",
		"SpeedMbps": 1000, "FullDuplex": true, "IPv4Addresses": []object{address}, "IPv4StaticAddresses": []object{address}, "Status": healthy(),
	})
	collection(tree, under, "EthernetInterface", []string{path})
}

func subnetMask(bits int) string {
	mask := ^uint32(0) << (32 - max(0, min(bits, 32)))
	return fmt.Sprintf("%d.%d.%d.%d", mask>>24, mask>>16&0xff, mask>>8&0xff, mask&0xff)
}

func (b *BMC) serviceRoot() object {
	return object{
		"@odata.id": redfishRoot + "/", "@odata.type": "#ServiceRoot.v1_17_0.ServiceRoot", "Id": "RootService", "Name": "Root Service",
		"RedfishVersion": "1.20.0", "UUID": formatUUID(b.cfg.Machine.UUID), "Vendor": b.cfg.Machine.Manufacturer, "Product": b.cfg.Machine.Product,
		"Systems": link(redfishRoot + "/Systems"), "Chassis": link(redfishRoot + "/Chassis"), "Managers": link(redfishRoot + "/Managers"),
		"SessionService": link(redfishRoot + "/SessionService"), "Links": object{"Sessions": link(sessionsPath)},
		"ProtocolFeaturesSupported": object{"ExpandQuery": object{"ExpandAll": false, "Links": false, "NoLinks": false, "Levels": false}, "FilterQuery": false, "SelectQuery": false},
	}
}

func (b *BMC) chassis() object {
	m := &b.cfg.Machine
	power := "Off"
	if b.cfg.Server.On() {
		power = "On"
	}
	return object{
		"@odata.id": chassisPath, "@odata.type": "#Chassis.v1_25_0.Chassis", "Id": "1", "Name": m.Name + " enclosure",
		"ChassisType": "RackMount", "Manufacturer": m.Enclosure.Manufacturer, "Model": m.Product, "PartNumber": m.Enclosure.PartNumber,
		"SerialNumber": m.Enclosure.Serial, "AssetTag": m.AssetTag, "PowerState": power, "Status": healthy(),
		"Links": object{"ComputerSystems": []object{link(systemPath)}, "ManagedBy": []object{link(managerPath)}},
	}
}

func (b *BMC) manager() object {
	c := &b.cfg.Machine.Controller
	return object{
		"@odata.id": managerPath, "@odata.type": "#Manager.v1_19_0.Manager", "Id": "1", "Name": "Manager", "ManagerType": "BMC",
		"Manufacturer": b.cfg.Machine.Manufacturer, "Model": c.Model, "FirmwareVersion": c.Firmware, "PowerState": "On", "Status": healthy(),
		"EthernetInterfaces": link(managerPath + "/EthernetInterfaces"),
		"Links":              object{"ManagerForServers": []object{link(systemPath)}, "ManagerForChassis": []object{link(chassisPath)}},
	}
}

func (b *BMC) sessionService() object {
	return object{
		"@odata.id": redfishRoot + "/SessionService", "@odata.type": "#SessionService.v1_1_9.SessionService", "Id": "SessionService",
		"Name": "Session Service", "ServiceEnabled": true, "SessionTimeout": int(b.cfg.SessionTimeout.Seconds()),
		"Sessions": link(sessionsPath), "Status": healthy(),
	}
}

func (b *BMC) sessionList() object {
	links := []object{}
	for _, s := range b.sessions.list() {
		links = append(links, link(sessionsPath+"/"+s.id))
	}
	return object{
		"@odata.id": sessionsPath, "@odata.type": "#SessionCollection.SessionCollection", "Name": "Session Collection",
		"Members": links, "Members@odata.count": len(links),
	}
}

func sessionObject(s session) object {
	return object{
		"@odata.id": sessionsPath + "/" + s.id, "@odata.type": "#Session.v1_7_0.Session", "Id": s.id, "Name": "User Session", "UserName": s.user,
	}
}

// sessionResource finds one session, which can be read and ended.
func (b *BMC) sessionResource(path string) (resource, bool) {
	id, ok := strings.CutPrefix(path, sessionsPath+"/")
	if !ok {
		return resource{}, false
	}
	for _, s := range b.sessions.list() {
		if s.id == id {
			return resource{
				get: func() object { return sessionObject(s) },
				delete: func(w http.ResponseWriter, _ *http.Request) {
					b.sessions.logout(id)
					w.WriteHeader(http.StatusNoContent)
				},
			}, true
		}
	}
	return resource{}, false
}

func (b *BMC) createSession(w http.ResponseWriter, r *http.Request, body []byte) {
	var req struct{ UserName, Password string }
	if !decode(w, body, &req) {
		return
	}
	if !b.authentic(req.UserName, req.Password) {
		writeError(w, http.StatusUnauthorized, message{ID: "ResourceAtUriUnauthorized", Text: "The user name or the password is wrong."})
		return
	}
	s, err := b.sessions.login(req.UserName)
	if err != nil {
		writeError(w, http.StatusServiceUnavailable, message{ID: "SessionLimitExceeded", Text: "The session establishment failed because the number of simultaneous sessions exceeds the limit of the implementation."})
		return
	}
	w.Header().Set("X-Auth-Token", s.token)
	w.Header().Set("Location", sessionsPath+"/"+s.id)
	writeObject(w, r, http.StatusCreated, sessionObject(s))
}
