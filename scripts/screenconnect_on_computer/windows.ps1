# Finds or removes the ScreenConnect (CW Control) agent on Windows. For Windows PowerShell 5.1 and later.
# Modes: detect; product (CIM, as WMIC did); msi (Windows Installer by product code); uninstall_string.
# Exit code: detect: 0 not installed, 1 installed, 2 cannot be told. Otherwise: 0 done, 3010 done after a reboot, 1 not done.
# The last line of detect is the answer as JSON.
param(
    [string] $Mode = 'detect',
    # 16 hexadecimal digits; empty: every instance (detect only). One computer may hold agents of several companies.
    [string] $Instance = ''
)
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'
if ($Instance -notmatch '^([0-9a-f]{16})?$') { throw "no instance: $Instance" }
if ($Mode -ne 'detect' -and $Instance -eq '') { throw 'the parameter Instance is missing' }

$NamePattern = '^ScreenConnect Client \(([0-9a-f]{16})\)$'
$GuidPattern = '\{[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}'

function Test-Wanted([string] $Found) { return ($Instance -eq '') -or ($Found -eq $Instance) }

function Get-LaunchValue([string] $ImagePath, [string] $Key) {
    # The service's path holds the launch parameters: "...exe" "?e=Access&y=Guest&h=host&p=443&s=guid&k=..."
    $match = [regex]::Match($ImagePath, "[?&]$Key=([A-Za-z0-9.:_-]+)")
    if ($match.Success) { return $match.Groups[1].Value }
    return ''
}

function Find-Service {
    foreach ($service in @(Get-Service -Name 'ScreenConnect Client (*)' -ErrorAction SilentlyContinue)) {
        if ($service.Name -notmatch $NamePattern) { continue }
        $id = $Matches[1]
        if (-not (Test-Wanted $id)) { continue }
        $path = "HKLM:\SYSTEM\CurrentControlSet\Services\$($service.Name)"
        $image = [string] (Get-ItemProperty -LiteralPath $path -ErrorAction SilentlyContinue | Select-Object -ExpandProperty ImagePath)
        @{ instance = $id; id = "service $($service.Name)"; version = ''
            session = (Get-LaunchValue $image 's'); host = (Get-LaunchValue $image 'h') }
    }
}

function Find-Entry {
    $views = @([Microsoft.Win32.RegistryView]::Registry32)
    if ([Environment]::Is64BitOperatingSystem) { $views += [Microsoft.Win32.RegistryView]::Registry64 }
    foreach ($view in $views) {
        $machine = [Microsoft.Win32.RegistryKey]::OpenBaseKey([Microsoft.Win32.RegistryHive]::LocalMachine, $view)
        $list = $machine.OpenSubKey('SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall')
        if ($null -eq $list) { continue }
        foreach ($key in $list.GetSubKeyNames()) {
            $entry = $list.OpenSubKey($key)
            if ($null -eq $entry) { continue }
            if (([string] $entry.GetValue('DisplayName')) -cmatch $NamePattern) {
                $id = $Matches[1]
                if (Test-Wanted $id) {
                    New-Object PSObject -Property @{
                        Instance = $id; Key = $key; Version = [string] $entry.GetValue('DisplayVersion')
                        Quiet = [string] $entry.GetValue('QuietUninstallString'); Text = [string] $entry.GetValue('UninstallString')
                    }
                }
            }
            $entry.Close()
        }
        $list.Close()
        $machine.Close()
    }
}

function Start-Program([string] $Program, [string] $Tail) {
    $start = New-Object System.Diagnostics.ProcessStartInfo
    $start.FileName = $Program
    $start.Arguments = $Tail
    $start.UseShellExecute = $false
    $start.CreateNoWindow = $true
    $process = [System.Diagnostics.Process]::Start($start)
    if (-not $process.WaitForExit(900000)) {
        # What a program says on standard error would end the script where it is remote.
        $ErrorActionPreference = 'Continue'
        & (Join-Path ([Environment]::SystemDirectory) 'taskkill.exe') /PID $process.Id /T /F | Out-Host
        return 1
    }
    return $process.ExitCode
}

function Invoke-Msi([string] $ProductCode) {
    $msiexec = Join-Path ([Environment]::SystemDirectory) 'msiexec.exe'
    for ($try = 0; $try -lt 20; $try++) {
        $code = Start-Program $msiexec "/x $ProductCode /qn /norestart REBOOT=ReallySuppress"
        # 1618: another installation is under way.
        if ($code -ne 1618) { break }
        Start-Sleep -Seconds 15
    }
    if ($code -eq 1605) { return 0 }
    if ($code -eq 1641) { return 3010 }
    return $code
}

function Select-Worst([long] $Before, [long] $Code) {
    # A failure outweighs a reboot, and a reboot outweighs success. CIM's codes have no sign and may be wider than [int].
    if ($Code -eq 1641) { $Code = 3010 }
    if ($Code -eq 0 -or @(0, 3010) -notcontains $Before) { return $Before }
    return $Code
}

if ($Mode -eq 'detect') {
    $found = @(Find-Service) + @(Find-Entry | ForEach-Object {
        @{ instance = $_.Instance; id = "product $($_.Key)"; version = $_.Version; session = ''; host = '' }
    })
    Write-Output (ConvertTo-Json -Compress -Depth 4 -InputObject @{ found = @($found); trouble = '' })
    if ($found.Count -gt 0) { exit 1 }
    exit 0
}

$worst = 0
$tried = 0
if ($Mode -eq 'product') {
    # $Instance is 16 hexadecimal digits, so it cannot change the query.
    foreach ($product in @(Get-CimInstance -ClassName Win32_Product -Filter "Name='ScreenConnect Client ($Instance)'")) {
        $tried++
        $answer = Invoke-CimMethod -InputObject $product -MethodName Uninstall
        $worst = Select-Worst $worst $answer.ReturnValue
    }
} elseif ($Mode -eq 'msi') {
    foreach ($entry in @(Find-Entry)) {
        if ($entry.Key -notmatch "^$GuidPattern$") { continue }
        $tried++
        $worst = Select-Worst $worst (Invoke-Msi $entry.Key)
    }
} elseif ($Mode -eq 'uninstall_string') {
    foreach ($entry in @(Find-Entry)) {
        $text = $entry.Quiet
        if ($text -eq '') { $text = $entry.Text }
        $guid = [regex]::Match($text, $GuidPattern)
        $program = [regex]::Match($text, '^"([A-Za-z]:\\[^"]+)"\s*(.*)$')
        $code = 1
        if ($guid.Success) {
            $tried++
            $code = Invoke-Msi $guid.Value
        } elseif ($entry.Quiet -ne '' -and $program.Success) {
            $tried++
            $code = Start-Program $program.Groups[1].Value $program.Groups[2].Value
        } else {
            Write-Output "no way is known to run this uninstaller without a window: $text"
        }
        $worst = Select-Worst $worst $code
    }
} else {
    throw "unknown mode: $Mode"
}
Write-Output "${Mode}: $tried tried, exit code $worst"
if ($tried -eq 0) { exit 1 }
if ($worst -ne 0 -and $worst -ne 3010) { exit 1 }
exit $worst
