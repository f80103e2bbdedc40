--- all ---
CREATE TABLE clients (
	clientid INTEGER NOT NULL, 
	externalid VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	slug VARCHAR NOT NULL, 
	PRIMARY KEY (clientid), 
	UNIQUE (externalid), 
	UNIQUE (slug)
)
;;
CREATE TABLE extrafield (
	id INTEGER NOT NULL, 
	form INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	sort INTEGER NOT NULL, 
	ftype INTEGER NOT NULL, 
	section VARCHAR NOT NULL, 
	fill VARCHAR NOT NULL, 
	ltguid VARCHAR NOT NULL, 
	ispassword BOOLEAN NOT NULL, 
	isencrypted BOOLEAN NOT NULL, 
	ishidden BOOLEAN NOT NULL, 
	isrestricted BOOLEAN NOT NULL, 
	uneditable BOOLEAN NOT NULL, 
	collapsed BOOLEAN NOT NULL, 
	nobreak BOOLEAN NOT NULL, 
	viewpermissions VARCHAR NOT NULL, 
	editpermissions VARCHAR NOT NULL, 
	isdestructive BOOLEAN NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (ltguid)
)
;;
CREATE TABLE extrafieldchange (
	changeid INTEGER NOT NULL, 
	changedat VARCHAR(26) NOT NULL, 
	changedby VARCHAR, 
	extrafieldid INTEGER NOT NULL, 
	id INTEGER NOT NULL, 
	oldvalue VARCHAR, 
	newvalue VARCHAR, 
	PRIMARY KEY (changeid)
)
;;
CREATE TABLE mastergroups (
	groupid INTEGER NOT NULL, 
	fullname VARCHAR NOT NULL, 
	PRIMARY KEY (groupid), 
	UNIQUE (fullname)
)
;;
CREATE TABLE extrafieldalias (
	extrafieldid INTEGER NOT NULL, 
	alias VARCHAR NOT NULL, 
	value VARCHAR NOT NULL, 
	PRIMARY KEY (extrafieldid, alias), 
	FOREIGN KEY(extrafieldid) REFERENCES extrafield (id)
)
;;
CREATE TABLE extrafielddata (
	extrafieldid INTEGER NOT NULL, 
	id INTEGER NOT NULL, 
	value VARCHAR NOT NULL, 
	changedby VARCHAR, 
	PRIMARY KEY (extrafieldid, id), 
	FOREIGN KEY(extrafieldid) REFERENCES extrafield (id)
)
;;
CREATE TABLE locations (
	locationid INTEGER NOT NULL, 
	clientid INTEGER NOT NULL, 
	externalid VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	PRIMARY KEY (locationid), 
	FOREIGN KEY(clientid) REFERENCES clients (clientid), 
	UNIQUE (externalid)
)
;;
CREATE TABLE computers (
	computerid INTEGER NOT NULL, 
	clientid INTEGER NOT NULL, 
	locationid INTEGER NOT NULL, 
	externalid VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	os VARCHAR NOT NULL, 
	platform VARCHAR NOT NULL, 
	domain VARCHAR NOT NULL, 
	username VARCHAR NOT NULL, 
	isserver BOOLEAN NOT NULL, 
	isprobe BOOLEAN NOT NULL, 
	lastcontact VARCHAR(26), 
	dateadded VARCHAR(26), 
	bootedat VARCHAR(26), 
	retiredat VARCHAR(26), 
	transport VARCHAR NOT NULL, 
	address VARCHAR NOT NULL, 
	port INTEGER, 
	credentialid INTEGER, 
	transportoptions JSON NOT NULL, 
	PRIMARY KEY (computerid), 
	FOREIGN KEY(clientid) REFERENCES clients (clientid), 
	FOREIGN KEY(locationid) REFERENCES locations (locationid), 
	UNIQUE (externalid)
)
;;
CREATE TABLE contacts (
	contactid INTEGER NOT NULL, 
	clientid INTEGER NOT NULL, 
	locationid INTEGER, 
	externalid VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	email VARCHAR NOT NULL, 
	PRIMARY KEY (contactid), 
	FOREIGN KEY(clientid) REFERENCES clients (clientid), 
	FOREIGN KEY(locationid) REFERENCES locations (locationid), 
	UNIQUE (externalid)
)
;;
CREATE TABLE agentcomputerdata (
	computerid INTEGER NOT NULL, 
	noalerts BOOLEAN NOT NULL, 
	uptimestart VARCHAR, 
	uptimeend VARCHAR, 
	PRIMARY KEY (computerid), 
	FOREIGN KEY(computerid) REFERENCES computers (computerid)
)
;;
CREATE TABLE maintenancemode (
	maintenanceid INTEGER NOT NULL, 
	computerid INTEGER NOT NULL, 
	timestart VARCHAR(26) NOT NULL, 
	durration INTEGER NOT NULL, 
	userid VARCHAR NOT NULL, 
	PRIMARY KEY (maintenanceid), 
	FOREIGN KEY(computerid) REFERENCES computers (computerid)
)
;;
CREATE TABLE mastergroupcomputers (
	groupid INTEGER NOT NULL, 
	computerid INTEGER NOT NULL, 
	PRIMARY KEY (groupid, computerid), 
	FOREIGN KEY(groupid) REFERENCES mastergroups (groupid), 
	FOREIGN KEY(computerid) REFERENCES computers (computerid)
)
;;
CREATE TABLE software (
	softwareid INTEGER NOT NULL, 
	computerid INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	version VARCHAR NOT NULL, 
	publisher VARCHAR NOT NULL, 
	uninstallstring VARCHAR NOT NULL, 
	seenat VARCHAR(26), 
	PRIMARY KEY (softwareid), 
	FOREIGN KEY(computerid) REFERENCES computers (computerid)
)
;;
