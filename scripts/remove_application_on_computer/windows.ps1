# Finds and removes one application on a Windows computer, by its exact name. For Windows PowerShell 5.1 and later.
#
# Looked at: the uninstall keys of the registry in both views and of every loaded user hive, and AppX packages. What another
# user's hive names is run as that user, by a scheduled task, and never with our rights: that user can write anything there.
# It is refused while Windows runs nothing as that user, that is, while the user is not signed in.
# Tried in this order for each entry: Windows Installer by product code, QuietUninstallString, and the switches of
# installers that are recognised by their own marks (Inno Setup, NSIS, WiX bundles, InstallShield with a response file).
# Anything else is refused with a reason: an uninstaller that opens a window would wait for ever.
# Strings are taken apart here and started as programs; no command interpreter ever sees them.
#
# Exit code: detect: 0 not installed, 1 installed, 2 cannot be told. Otherwise: 0 done, 3010 done after a reboot, 1 not
# everything done. The last line is the answer as JSON.
param(
    [Parameter(Mandatory = $true)] [string] $Name,
    [string] $Mode = 'detect',
    [string] $Uninstall_Strings = '',
    [string] $Allow_Dependents = '0',
    [int] $Lock_Seconds = 300
)
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

$ProcessSeconds = 1200
# Stands for the exit code of what was ended by us; no program ends with it by itself.
$Ended = [int]::MinValue
$GuidPattern = '\{[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}'
$UninstallPath = 'Microsoft\Windows\CurrentVersion\Uninstall'
# Whose uninstaller it is: this, or the SID of another user.
$Ours = 'ours'
$SidPattern = '^S-1-(5-21|12-1)-[0-9-]+$'
$TaskPrefix = 'Exeunt Application Removal '
# A user who is signed in has the task started within this time.
$StartSeconds = 60
# Two answers of Windows for a task whose user is not signed in; the first stands for both.
$NotSignedIn = 0x800704DD
$RequestRefused = 0x800710E0
$script:Trouble = ''
$script:Reboot = $false
$script:Actions = New-Object System.Collections.ArrayList

# --- what is installed ------------------------------------------------------------------------------------------------

function Get-Text($Key, [string] $Value) {
    # As it is written: the variables in it are those of the user whose entry it is.
    $found = $Key.GetValue($Value, $null, [Microsoft.Win32.RegistryValueOptions]::DoNotExpandEnvironmentNames)
    if ($null -eq $found) { return '' }
    return [string] $found
}

function Read-UninstallKey([string] $Hive, [Microsoft.Win32.RegistryKey] $Base, [string] $Path, [string] $User) {
    $list = $null
    try {
        $list = $Base.OpenSubKey($Path)
        if ($null -eq $list) { return }
        foreach ($id in $list.GetSubKeyNames()) {
            $key = $list.OpenSubKey($id)
            if ($null -eq $key) { continue }
            try {
                # The value as it is: no pattern, no difference in case is overlooked.
                if (-not [string]::Equals((Get-Text $key 'DisplayName'), $Name, [StringComparison]::Ordinal)) { continue }
                New-Object PSObject -Property @{
                    Kind = 'registry'; Id = "$Hive\$Path\$id"; KeyName = $id
                    Version = (Get-Text $key 'DisplayVersion'); Quiet = (Get-Text $key 'QuietUninstallString')
                    Uninstall = (Get-Text $key 'UninstallString'); IsMsi = ((Get-Text $key 'WindowsInstaller') -eq '1')
                    IsBundle = ((Get-Text $key 'BundleCachePath') -ne ''); Package = $null
                    User = $User
                    IsInno = (@($key.GetValueNames() | Where-Object { $_ -like 'Inno Setup:*' }).Count -gt 0)
                }
            } finally { $key.Close() }
        }
    } catch [System.Security.SecurityException], [System.UnauthorizedAccessException], [System.IO.IOException] {
        $script:Trouble = "$Hive\$Path cannot be read: $($_.Exception.Message)"
    } finally {
        if ($null -ne $list) { $list.Close() }
    }
}

function Find-RegistryEntry {
    $views = @([Microsoft.Win32.RegistryView]::Registry32)
    if ([Environment]::Is64BitOperatingSystem) { $views = @([Microsoft.Win32.RegistryView]::Registry64) + $views }
    foreach ($view in $views) {
        $machine = [Microsoft.Win32.RegistryKey]::OpenBaseKey([Microsoft.Win32.RegistryHive]::LocalMachine, $view)
        try { Read-UninstallKey "HKLM($view)" $machine "SOFTWARE\$UninstallPath" $Ours } finally { $machine.Close() }
    }
    # A user's Software key is one for both views; 32-bit installers may have made Wow6432Node in it.
    $users = [Microsoft.Win32.RegistryKey]::OpenBaseKey([Microsoft.Win32.RegistryHive]::Users, $views[0])
    $me = [System.Security.Principal.WindowsIdentity]::GetCurrent().User.Value
    try {
        foreach ($sid in $users.GetSubKeyNames()) {
            if ($sid -notmatch $SidPattern -and $sid -ne $me) { continue }
            $user = $sid
            if ($sid -eq $me) { $user = $Ours }
            Read-UninstallKey "HKU" $users "$sid\Software\$UninstallPath" $user
            Read-UninstallKey "HKU" $users "$sid\Software\Wow6432Node\$UninstallPath" $user
        }
    } finally { $users.Close() }
}

function Find-AppxEntry {
    if ($null -eq (Get-Command -Name Get-AppxPackage -ErrorAction SilentlyContinue)) { return }
    try {
        foreach ($package in @(Get-AppxPackage -AllUsers)) {
            if (-not [string]::Equals([string] $package.Name, $Name, [StringComparison]::Ordinal)) { continue }
            New-Object PSObject -Property @{
                Kind = 'appx'; Id = [string] $package.PackageFullName; Version = [string] $package.Version; Package = $package
            }
        }
    } catch {
        # Server Core and stopped AppX services have none; it is told in the log and is no reason to doubt the registry.
        Write-Warning "AppX packages cannot be listed: $($_.Exception.Message)"
    }
}

function Find-Application { @(Find-RegistryEntry) + @(Find-AppxEntry) }

# --- running uninstallers ---------------------------------------------------------------------------------------------

function Start-Uninstaller([string] $Program, [string] $Tail) {
    # $Tail goes to the program as it stands in the registry or the inventory, as Windows itself would pass it on.
    Write-Output "starting $Program $Tail" | Out-Host
    $start = New-Object System.Diagnostics.ProcessStartInfo
    $start.FileName = $Program
    $start.Arguments = $Tail
    $start.UseShellExecute = $false
    $start.CreateNoWindow = $true
    $start.WorkingDirectory = [Environment]::SystemDirectory
    try {
        $process = [System.Diagnostics.Process]::Start($start)
    } catch [System.ComponentModel.Win32Exception] {
        # Windows refuses to start it: 740 = it needs an elevated caller, 5 = access denied, 193 = no program.
        $reason = $_.Exception.GetBaseException()
        Write-Warning "$Program cannot be started: $($reason.Message)"
        return $reason.NativeErrorCode
    }
    try {
        if (-not $process.WaitForExit($ProcessSeconds * 1000)) {
            # What a program says on standard error would end the script where it is remote.
            $ErrorActionPreference = 'Continue'
            & (Join-Path ([Environment]::SystemDirectory) 'taskkill.exe') /PID $process.Id /T /F | Out-Host
            return $Ended
        }
        return $process.ExitCode
    } finally { $process.Dispose() }
}

function New-UserTask([string] $Sid, [string] $Program, [string] $Tail) {
    # Without a trigger: it runs when it is started, in that user's session, and without an administrator's rights even if
    # the user is one. It lies in the root, since no cmdlet could remove a folder; nobody can guess its name and take it.
    # These cmdlets are functions of a module, which our $ErrorActionPreference does not reach: each is told.
    if ($Sid -notmatch $SidPattern) { throw "no user's SID: $Sid" }
    $what = @{ Execute = $Program; WorkingDirectory = [Environment]::SystemDirectory; ErrorAction = 'Stop' }
    if ($Tail -ne '') { $what.Argument = $Tail }
    $action = New-ScheduledTaskAction @what
    $settings = New-ScheduledTaskSettingsSet -AllowStartIfOnBatteries -DontStopIfGoingOnBatteries -ErrorAction Stop `
        -ExecutionTimeLimit (New-TimeSpan -Seconds $ProcessSeconds)
    $principal = New-ScheduledTaskPrincipal -UserId $Sid -LogonType Interactive -RunLevel Limited -ErrorAction Stop
    $unique = [guid]::NewGuid().ToString('N')
    return Register-ScheduledTask -TaskName "$TaskPrefix$unique" -Action $action -Settings $settings `
        -Principal $principal -ErrorAction Stop
}

function Get-TaskResult($Task) {
    # The exit code of its program, or Windows' own number. It is unsigned there; ours are signed.
    $info = Get-ScheduledTaskInfo -InputObject $Task -ErrorAction Stop
    $code = [BitConverter]::ToInt32([BitConverter]::GetBytes([int64] $info.LastTaskResult), 0)
    if ($code -eq $NotSignedIn -or $code -eq $RequestRefused) { return $NotSignedIn }
    # An error of Windows as HRESULT, 0x8007....: the number within is what Start-Uninstaller would return.
    $number = $code -band 0xFFFF
    if (($code -band 0xFFFF0000) -eq 0x80070000 -and $number -ne 0) { return $number }
    return $code
}

function Wait-UserTask($Task) {
    $begin = (Get-Date).AddSeconds($StartSeconds)
    $deadline = (Get-Date).AddSeconds($ProcessSeconds)
    while ((Get-Date) -lt $deadline) {
        Start-Sleep -Seconds 2
        $now = Get-ScheduledTask -TaskName $Task.TaskName -TaskPath $Task.TaskPath -ErrorAction Stop
        $code = Get-TaskResult $Task
        # 0x41301: it is running. 0x41306: it was ended. 0x41300, 0x41303, 0x41325: it waits, has not run yet, is queued.
        if ([string] $now.State -eq 'Running' -or $code -eq 0x41301) { continue }
        if ($code -eq 0x41306) { return $Ended }
        if (@(0x41300, 0x41303, 0x41325) -notcontains $code) { return $code }
        if ((Get-Date) -gt $begin) { return $NotSignedIn }
    }
    Stop-ScheduledTask -InputObject $Task -ErrorAction SilentlyContinue
    return $Ended
}

function Start-AsUser([string] $Sid, [string] $Program, [string] $Tail) {
    Write-Output "starting as ${Sid}: $Program $Tail" | Out-Host
    $task = New-UserTask $Sid $Program $Tail
    try {
        try {
            Start-ScheduledTask -InputObject $task -ErrorAction Stop
        } catch {
            if ($_.FullyQualifiedErrorId -match '^HRESULT 0x(800704DD|800710E0)') { return $NotSignedIn }
            throw
        }
        return Wait-UserTask $task
    } finally {
        # Quietly: what stays is removed by the next run.
        Unregister-ScheduledTask -InputObject $task -Confirm:$false -ErrorAction SilentlyContinue
    }
}

function Remove-LeftTask {
    # The tasks of a run that was killed. One that is still running ends at its own time limit.
    if ($null -eq (Get-Command -Name Get-ScheduledTask -ErrorAction SilentlyContinue)) { return }
    try {
        foreach ($task in @(Get-ScheduledTask -TaskName "$TaskPrefix*" -TaskPath '\' -ErrorAction SilentlyContinue)) {
            if ([string] $task.State -eq 'Running') { continue }
            Unregister-ScheduledTask -InputObject $task -Confirm:$false -ErrorAction Stop
        }
    } catch { Write-Warning "A task of an earlier run stays: $($_.Exception.Message)" }
}

function Invoke-Uninstaller([string] $User, [string] $Program, [string] $Tail) {
    # The one place that chooses whose rights are used. Whatever is not said to be ours is not run with our rights.
    if ($User -ceq $Ours) { return Start-Uninstaller $Program $Tail }
    return Start-AsUser $User $Program $Tail
}

function Invoke-Msi([string] $User, [string] $ProductCode) {
    $msiexec = Join-Path ([Environment]::SystemDirectory) 'msiexec.exe'
    $left = $Lock_Seconds
    while ($true) {
        $code = Invoke-Uninstaller $User $msiexec "/x $ProductCode /qn /norestart REBOOT=ReallySuppress"
        # 1618: another installation is under way.
        if ($code -ne 1618 -or $left -le 0) { return $code }
        Start-Sleep -Seconds 15
        $left -= 15
    }
}

function Test-RootedFile([string] $Path) {
    # A drive's path; neither relative nor on somebody's share. Test-Path would fail for quotation marks in it.
    return ($Path -match '^[A-Za-z]:\\') -and [System.IO.File]::Exists($Path)
}

function Expand-Text([string] $User, [string] $Text) {
    # Our own variables would lead from another user's entry into our profile. These exist while that user is signed in.
    if ($User -cne $Ours) {
        foreach ($variable in 'USERPROFILE', 'APPDATA', 'LOCALAPPDATA', 'USERNAME') {
            $value = [string] [Microsoft.Win32.Registry]::GetValue("HKEY_USERS\$User\Volatile Environment", $variable, '')
            $Text = $Text -replace "%$variable%", $value.Replace('$', '$$')
        }
    }
    return [Environment]::ExpandEnvironmentVariables($Text)
}

function Split-CommandLine([string] $Text) {
    # Program and tail of a stored string. The program must exist: nothing is searched for on PATH.
    $line = $Text.Trim()
    if ($line -match '^"([^"]+)"\s*(.*)$') {
        $program = $Matches[1]; $tail = $Matches[2]
    } elseif (Test-RootedFile $line) {
        $program = $line; $tail = ''
    } else {
        $program = ''; $tail = ''
        # Without quotes a path may hold blanks: the first existing file that ends in .exe counts.
        foreach ($match in [regex]::Matches($line, '(?i)\.exe(?=\s|$)')) {
            $end = $match.Index + $match.Length
            $candidate = $line.Substring(0, $end)
            if ($candidate -notmatch '[\\/]') { $candidate = Join-Path ([Environment]::SystemDirectory) $candidate }
            if (Test-RootedFile $candidate) { $program = $candidate; $tail = $line.Substring($end).Trim(); break }
        }
    }
    if (-not (Test-RootedFile $program)) { return $null }
    return New-Object PSObject -Property @{ Program = $program; Tail = $tail }
}

function Test-Nsis([string] $Program) {
    # NSIS writes its mark into the first part of every uninstaller.
    $stream = [System.IO.File]::Open($Program, 'Open', 'Read', 'ReadWrite')
    try {
        $buffer = New-Object byte[] 1048576
        $count = $stream.Read($buffer, 0, $buffer.Length)
        $text = [System.Text.Encoding]::ASCII.GetString($buffer, 0, $count)
        return $text.Contains('Nullsoft.NSIS') -or $text.Contains('NullsoftInst')
    } finally { $stream.Dispose() }
}

function Get-QuietTail($Command, $Entry) {
    # The tail that makes a recognised uninstaller quiet; $null when it is not recognised.
    $leaf = [System.IO.Path]::GetFileName($Command.Program)
    $folder = [System.IO.Path]::GetDirectoryName($Command.Program)
    $tail = $Command.Tail
    if ($null -ne $Entry -and $Entry.IsBundle) { return "$tail /quiet /norestart" }
    $inno = ($null -ne $Entry -and $Entry.IsInno) -or (Test-Path -LiteralPath ($Command.Program -replace '\.exe$', '.dat'))
    if ($leaf -match '^unins\d{3}\.exe$' -and $inno) { return "$tail /VERYSILENT /SUPPRESSMSGBOXES /NORESTART" }
    if (Test-Nsis $Command.Program) { return "/S $tail" }
    if ($Command.Program -match '\\InstallShield Installation Information\\') {
        $answers = Join-Path $folder 'uninstall.iss'
        if (Test-Path -LiteralPath $answers -PathType Leaf) { return "$tail -s -f1`"$answers`"" }
    }
    return $null
}

function Add-Action([string] $Kind, [string] $Id, [string] $Version, [string] $Outcome, [string] $Reason) {
    [void] $script:Actions.Add(@{ kind = $Kind; id = $Id; version = $Version; outcome = $Outcome; reason = $Reason })
    Write-Output "$Kind ${Id}: $Outcome $Reason" | Out-Host
}

function Add-ExitCode([string] $Kind, [string] $Id, [string] $Version, [int] $Code) {
    switch ($Code) {
        0 { Add-Action $Kind $Id $Version 'removed' '' }
        1605 { Add-Action $Kind $Id $Version 'removed' 'the product is not installed any more' }
        { $_ -eq 3010 -or $_ -eq 1641 } {
            $script:Reboot = $true
            Add-Action $Kind $Id $Version 'removed' 'a reboot is needed'
        }
        { $_ -eq $Ended } { Add-Action $Kind $Id $Version 'failed' "it was ended after $ProcessSeconds seconds" }
        { $_ -eq $NotSignedIn } {
            Add-Action $Kind $Id $Version 'refused' ('it is installed for one user, and Windows runs nothing as that user now: ' +
                'remove it while that user is signed in')
        }
        1618 { Add-Action $Kind $Id $Version 'failed' 'another installation was under way all the time' }
        default { Add-Action $Kind $Id $Version 'failed' "the uninstaller ended with exit code $Code" }
    }
}

function Remove-ByString([string] $Kind, [string] $Id, [string] $Version, [string] $Text, $Entry, [bool] $IsQuiet) {
    # Removes by a stored string. $IsQuiet: the vendor says that it opens no window. Without $Entry it is the inventory's.
    $user = $Ours
    if ($null -ne $Entry) { $user = $Entry.User }
    $plain = Expand-Text $user $Text
    $installer = [regex]::Match($plain, '(?i)^\s*"?([a-z]:\\[^"]*\\)?msiexec(\.exe)?"?\s.*')
    $code = [regex]::Match($plain, $GuidPattern)
    if ($installer.Success) {
        if ($code.Success) { Add-ExitCode 'msi' $Id $Version (Invoke-Msi $user $code.Value) }
        else { Add-Action 'msi' $Id $Version 'refused' 'its Windows Installer command names no product code' }
        return
    }
    $command = Split-CommandLine $plain
    if ($null -eq $command) {
        Add-Action $Kind $Id $Version 'refused' "its uninstall string names no program on a drive of this computer: $Text"
        return
    }
    $tail = $command.Tail
    if (-not $IsQuiet) { $tail = Get-QuietTail $command $Entry }
    if ($null -eq $tail) {
        Add-Action $Kind $Id $Version 'refused' "no way is known to run its uninstaller without a window: $Text"
        return
    }
    Add-ExitCode $Kind $Id $Version (Invoke-Uninstaller $user $command.Program $tail.Trim())
}

function Remove-RegistryEntry($Entry) {
    if ($Entry.IsMsi -and $Entry.KeyName -match "^$GuidPattern$") {
        Add-ExitCode 'msi' $Entry.Id $Entry.Version (Invoke-Msi $Entry.User $Entry.KeyName)
    } elseif ($Entry.Quiet -ne '') {
        Remove-ByString 'quiet_string' $Entry.Id $Entry.Version $Entry.Quiet $Entry $true
    } elseif ($Entry.Uninstall -ne '') {
        Remove-ByString 'uninstall_string' $Entry.Id $Entry.Version $Entry.Uninstall $Entry $false
    } else {
        Add-Action 'registry' $Entry.Id $Entry.Version 'refused' 'its entry names no uninstaller'
    }
}

function Remove-AppxEntry($Entry) {
    $package = $Entry.Package
    if (($package.PSObject.Properties.Name -contains 'NonRemovable') -and $package.NonRemovable) {
        Add-Action 'appx' $Entry.Id $Entry.Version 'refused' 'it is a part of Windows'
        return
    }
    try {
        # New users would get it again from the provisioned copy.
        if ($null -ne (Get-Command -Name Get-AppxProvisionedPackage -ErrorAction SilentlyContinue)) {
            Get-AppxProvisionedPackage -Online |
                Where-Object { [string]::Equals($_.DisplayName, $Name, [StringComparison]::Ordinal) } |
                Remove-AppxProvisionedPackage -Online | Out-Null
        }
        Remove-AppxPackage -Package $Entry.Id -AllUsers
        Add-Action 'appx' $Entry.Id $Entry.Version 'removed' ''
    } catch {
        Add-Action 'appx' $Entry.Id $Entry.Version 'failed' $_.Exception.Message
    }
}

function Wait-UntilGone([int] $Seconds) {
    # Inno Setup and NSIS go on in a copy of themselves after the first process has ended.
    $deadline = (Get-Date).AddSeconds($Seconds)
    while ((@(Find-Application).Count -gt 0) -and ((Get-Date) -lt $deadline)) { Start-Sleep -Seconds 2 }
}

# --- the three modes --------------------------------------------------------------------------------------------------

# Also where it only looks: after a run that was killed there may be nothing else to do.
Remove-LeftTask
if ($Mode -eq 'detect') {
    $found = @(Find-Application)
    $list = @($found | ForEach-Object { @{ kind = $_.Kind; id = $_.Id; version = $_.Version } })
    Write-Output (ConvertTo-Json -Compress -Depth 4 -InputObject @{ found = $list; trouble = $script:Trouble })
    if ($found.Count -gt 0) { exit 1 }
    if ($script:Trouble -ne '') { exit 2 }
    exit 0
}
if ($Mode -eq 'remove') {
    foreach ($entry in @(Find-Application)) {
        if ($entry.Kind -eq 'appx') { Remove-AppxEntry $entry; continue }
        # What one user has written, or keeps us from reading, must not keep everything else installed.
        try { Remove-RegistryEntry $entry } catch {
            Add-Action 'registry' $entry.Id $entry.Version 'failed' $_.Exception.Message
        }
    }
} elseif ($Mode -eq 'uninstall_string') {
    foreach ($line in $Uninstall_Strings.Split("`n")) {
        if ($line.Trim() -eq '') { continue }
        # Somebody who stored a string with one of these switches says that it is quiet.
        $quiet = $line -match '(?i)\s[/-]{1,2}(S|silent|verysilent|quiet|q|qn)(\s|$)'
        Remove-ByString 'stored' $line '' $line $null $quiet
    }
} else {
    throw "unknown mode: $Mode"
}
$bad = @($script:Actions | Where-Object { $_.outcome -ne 'removed' })
if (($script:Actions.Count -gt 0) -and ($bad.Count -lt $script:Actions.Count) -and -not $script:Reboot) { Wait-UntilGone 120 }
Write-Output (ConvertTo-Json -Compress -Depth 4 -InputObject @{ actions = @($script:Actions.ToArray()); reboot = $script:Reboot })
if ($bad.Count -gt 0) { exit 1 }
if ($script:Reboot) { exit 3010 }
exit 0
